"""report.html: one self-contained page, verdict first, for whoever has to decide.

Everything on it comes from files: gate.json and the evaluation, and where they are there the PPO history, the
tokens' KL, the diagnosis, the reward model's card, the data's summary, the champion's parameters. Text of prompts,
answers and files is escaped by Jinja's autoescape or by markupsafe; the page has no script, asks for nothing from
outside, and forbids both by a content security policy that allows one style sheet, by its hash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from kellet.config.run import Config
from kellet.evaluation.file import check_evaluation
from kellet.files import atomic_file
from kellet.report import figures, sources
from kellet.report import judgements as judged
from kellet.report import side_by_side as answers
from kellet.report.pages import content_policy

PARTS = (
    "report.html",
    "report_macros.html",
    "report_verdict.html",
    "report_why.html",
    "report_answers.html",
    "report_sources.html",
)
STYLE = "report.css"


def write_report(
    out: Path,
    decision: Mapping[str, Any],
    evaluation: pd.DataFrame,
    history: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    lineage: Mapping[str, str] | None = None,
    diagnosis: Mapping[str, Any] | None = None,
    champion: Mapping[str, Any] | None = None,
    token_kl: Mapping[str, Any] | None = None,
) -> None:
    """Write the page to the file ``out``, atomically.

    ``decision`` is the content of gate.json, ``evaluation`` the rows it was made from, ``history`` the lines of
    history.jsonl, ``config`` the resolved configuration, ``card`` card.json, ``data`` summary.json, ``lineage``
    names and hashes, ``diagnosis`` diagnosis.json, ``champion`` what is known of it (``name``, its ``config``, its
    ``lineage``), and ``token_kl`` token_kl.json. Raises DataError when the rows break the contract.
    """
    rows = check_evaluation(evaluation)
    gate = decision["config"]
    criteria = [judged.criterion(item) for item in decision["criteria"]]
    fitted = figures.slopes(rows, gate)
    columns, systems = judged.systems(rows, gate)
    template = environment().get_template(PARTS[0])
    css = template.environment.globals["css"]
    page = template.render(
        policy=content_policy(str(css)),
        name=(config or {}).get("name"),
        decision=decision,
        told=decision["headline"].split("; "),
        level=f"{100 * (1 - 2 * float(gate['alpha'])):g}%",
        criteria=criteria,
        tiles=judged.tiles(criteria),
        tally=judged.tally(criteria),
        explanation=(explanation := judged.explanation(diagnosis)),
        together=dict(explanation).get("Together:", ""),
        champion=judged.champion(decision),
        versus=_versus(config, {**decision["inputs"], **(lineage or {})}, champion),
        columns=columns,
        systems=systems,
        judges=judged.judges(decision),
        diagnosis=diagnosis,
        hypotheses=[judged.hypothesis(item) for item in (diagnosis or {}).get("hypotheses", ())],
        patches=[sources.patch(item) for item in (diagnosis or {}).get("recommendations", ())],
        measured=[sources.measured(item) for item in (diagnosis or {}).get("recommendations", ())],
        curves=figures.curves(history, gate, figures.answered(rows)),
        scatter=figures.scatter(rows, dict(fitted)),
        slopes=fitted,
        shown=min(figures.MAX_POINTS, int((rows["system"] == "candidate").sum())),
        length=judged.length(decision),
        style=judged.style(decision),
        heats=answers.heats(token_kl, rows),
        levels=answers.LEVELS,
        max_tokens=answers.MAX_TOKENS,
        examples=answers.examples(rows),
        card=sources.card_tables(card) if card else None,
        data=sources.data_card(data) if data else None,
        lineage=sources.facts({**(lineage or {}), **decision["inputs"]}),
        versions=sources.versions(),
        config=sources.masked(config or {"gate": gate}),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def environment() -> jinja2.Environment:
    """The templates beside this file, with their style sheet as the global ``css``; whatever they show is escaped."""
    folder = Path(__file__).parent
    made = jinja2.Environment(
        loader=jinja2.DictLoader({name: (folder / name).read_text(encoding="utf-8") for name in PARTS}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The sheet is ours: nothing of it comes from data.
    made.globals["css"] = Markup((folder / STYLE).read_text(encoding="utf-8"))  # noqa: S704
    return made


def _versus(
    config: Mapping[str, Any] | None, lineage: Mapping[str, Any], champion: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What differs from the champion's run, or from Kellet's defaults where there is no champion's run to see."""
    if champion is None:
        defaults = Config().model_dump(mode="json")
        return {"name": None, "parameters": sources.differing(config, defaults) if config else [], "lineage": []}
    known = champion.get("lineage") or {}
    came = [
        (key, str(known.get(key, "–")), str(lineage.get(key, "–")))
        for key in ("data_md5", "code_version", "git_commit")
        if known.get(key) != lineage.get(key)
    ]
    parameters = sources.differing(config, champion["config"]) if config and champion.get("config") else []
    return {"name": champion["name"], "parameters": parameters, "lineage": came}
