"""What the pages of several runs share (remedies.html, compare.html): rendering, colours, curves over each other."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from kellet.files import atomic_file
from kellet.report import svg

STYLES = ("report.css", "compare.css")
COLOURS = 8
"""Classes run-0 … of compare.css; more runs than that use them again."""
MAX_STEPS = 400
"""Points of a curve; evenly spaced iterations when there are more."""
CURVES = (
    ("Reward", "own reward model's", "objective/reward"),
    ("Length", "tokens of a response", "tokens/response_mean"),
    ("KL from the reference", "nats per response", "objective/kl"),
    ("KL coefficient β", "reward per nat", "objective/kl_coef"),
)


def write_page(out: Path, template: str, **values: Any) -> None:
    """Render a template beside this file to the page ``out``, atomically; whatever it shows is escaped."""
    folder = Path(__file__).parent
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The sheets are ours: nothing of them comes from data.
    css = Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in STYLES))  # noqa: S704
    page = made.get_template(template).render(css=css, policy=content_policy(str(css)), **values)
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def colour(number: int) -> str:
    """The CSS class of a run."""
    return f"run-{number % COLOURS}"


def overlaid(
    histories: Mapping[str, Sequence[Mapping[str, Any]]], levels: Sequence[tuple[str, str, float]] = ()
) -> list[tuple[str, Markup]]:
    """Curves of several runs over each other, one drawing a metric that any has; ``levels`` stand at the KL."""
    drawn = []
    for title, unit, key in CURVES:
        series = [
            svg.Series(name, colour(number), _points(history, key))
            for number, (name, history) in enumerate(histories.items())
        ]
        if any(one.points for one in series):
            lines = levels if key == "objective/kl" else ()
            drawn.append((title, svg.curves(title, unit, [one for one in series if one.points], lines)))
    return drawn


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[svg.Point]:
    pairs = [(step.get("iteration", number), step.get(key)) for number, step in enumerate(history, 1)]
    points = [(float(x), float(y)) for x, y in pairs if x is not None and y is not None and np.isfinite(y)]
    if len(points) <= MAX_STEPS:
        return points
    return [points[place] for place in np.linspace(0, len(points) - 1, MAX_STEPS).round().astype(int)]


def content_policy(css: str) -> str:
    """A content security policy under which nothing loads or runs but the style sheet ``css``."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
