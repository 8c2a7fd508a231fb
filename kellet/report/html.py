"""What all pages share: templates that escape whatever they show, and a policy under which a page loads nothing.

base.html is the frame of every page, macros.html has the parts that several pages use. report.css styles every page,
compare.css adds what only the pages of several runs have.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kellet.files import atomic_file


def write_page(out: Path, template: str, sheets: Sequence[str], **values: Any) -> None:
    """Render a template beside this file, with the style sheets ``sheets``, to the page ``out``, atomically."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Markup, so not escaped: the style sheets are Kellet's and hold nothing from data.
    css = Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in sheets))  # noqa: S704
    page = environment.get_template(template).render(css=css, policy=content_policy(str(css)), **values)
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def content_policy(css: str) -> str:
    """A content security policy under which nothing loads or runs but the style sheet ``css``."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
