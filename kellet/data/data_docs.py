"""Data Docs: the validation results as pages that open in a browser without network.

Great Expectations renders each result; its pages load their styles, scripts, logo and the table of their index from
other hosts, so those parts are removed here, a small style is put in, and a new index is written.
"""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kellet.data.validation import TableReport
from kellet.files import atomic_folder

_SCRIPTS = re.compile(r"<script\b.*?</script>", re.DOTALL)
_REMOTE = re.compile(r"<(?:link|img)\b[^>]*>|<footer>.*?</footer>|url\('https?://[^)]*\)", re.DOTALL)
_SUITE_LINK = re.compile(r'<a href="[^"]*expectations/[^"]*"[^>]*>(.*?)</a>')
STYLE = """<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .5rem; text-align: left; vertical-align: top; }
ul { padding-left: 1.2rem; } a { color: #0b5cad; }
.btn-group, .btn, .sticky .card:first-of-type, [data-toggle=collapse] { display: none; }
.fa-check-circle::before, .ok::before { content: "\\2713"; color: #17803d; }
.fa-times::before, .no::before { content: "\\2717"; color: #b3261e; }
.fa-exclamation-triangle::before, .warn::before { content: "!"; color: #9a6700; font-weight: bold; }
</style>"""


def write_docs(folder: Path, report: TableReport, reasons: Mapping[str, int], results: Mapping[str, Any]) -> None:
    """Write index.html and one page per validation result (``results``: name -> result) as ``folder``, atomically.

    ``reasons`` are the quarantined rows by reason. Raises InputError when the folder cannot be written.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    with atomic_folder(folder) as temporary:
        for name, result in results.items():
            page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
            (temporary / f"{name}.html").write_text(_offline(page), encoding="utf-8")
        (temporary / "index.html").write_text(_index(report, reasons, list(results)), encoding="utf-8")


def _offline(page: str) -> str:
    page = _REMOTE.sub("", _SCRIPTS.sub("", page)).replace("</head>", STYLE + "</head>", 1)
    page = _SUITE_LINK.sub(r"\1", page)
    return re.sub(r'href="[^"]*index\.html"|href="#"(?=>\s*</a>)', 'href="index.html"', page)


def _index(report: TableReport, reasons: Mapping[str, int], pages: list[str]) -> str:
    marks = {(True, "critical"): "ok", (True, "warning"): "ok", (False, "critical"): "no", (False, "warning"): "warn"}
    checks = "".join(
        f'<tr><td class="{marks[check.passed, check.severity]}"></td><td>{html.escape(check.name)}</td>'
        f"<td>{html.escape(check.wanted)}</td><td>{html.escape(check.observed)}</td></tr>"
        for check in report.checks
    )
    rows = "".join(f"<tr><td>{html.escape(reason)}</td><td>{count}</td></tr>" for reason, count in reasons.items())
    links = " · ".join(f'<a href="{name}.html">{name}</a>' for name in pages)
    verdict = "cannot be used" if report.failed else "can be used" + (", with warnings" if report.warnings else "")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8"><title>Data Docs</title>{STYLE}</head><body>'
        f"<h1>Preferences: the table {verdict}</h1><p>Great Expectations, suite by suite: {links}</p>"
        f"<h2>Table</h2><table><tr><th></th><th>expectation</th><th>wanted</th><th>observed</th></tr>{checks}</table>"
        f"<h2>Quarantine</h2><table><tr><th>reason</th><th>rows</th></tr>{rows}</table></body></html>\n"
    )
