"""report.html: one self-contained page, verdict first, for whoever has to decide.

It shows a run's folder (run.py), and two things that lie elsewhere: the data's summary and what the champion was. Text
of prompts, answers and files is escaped (html.py). The page has no script and asks for nothing from outside, and it
forbids both by a content security policy that allows one style sheet, by its hash.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kellet.config.run import Config
from kellet.report import figures, sources
from kellet.report import judgements as judged
from kellet.report import side_by_side as answers
from kellet.report.html import write_page
from kellet.report.run import Run
from kellet.stats.format import value_and_interval

PARTS = (
    "report.html",
    "report_verdict.html",
    "report_why.html",
    "report_answers.html",
    "report_sources.html",
)
"""Its templates. The report's key in adapters/artefacts.py changes with the files that its code names."""


def write_report(
    out: Path, run: Run, data: Mapping[str, Any] | None = None, champion: Mapping[str, Any] | None = None
) -> None:
    """Write the page to the file ``out``, atomically.

    ``run`` was read with its answers. ``data`` is summary.json of the data that it learned from. ``champion`` has the
    champion's ``name`` and, where known, its ``config`` and ``lineage`` (hashes, commit).
    """
    if run.evaluation is None:
        raise ValueError("a report shows answers; read the run with read_run(folder, answers=True)")
    rows, decision, diagnosis = run.evaluation, run.decision, run.diagnosis
    gate, look = decision["config"], decision.get("programme", {})
    criteria = [judged.criterion(item) for item in decision["criteria"]]
    columns, systems = judged.systems(rows, gate)
    slopes = figures.slopes(rows, gate)
    changes = diagnosis.get("recommendations", ())
    explanation = judged.explanation(diagnosis)
    write_page(
        out,
        PARTS[0],
        ("report.css",),
        name=run.params.get("name"),
        decision=decision,
        headline=decision["headline"].split("; "),
        level=judged.interval_level(gate["alpha"]),
        asked_level=judged.interval_level(look.get("gate_alpha", gate["alpha"])),
        look=look.get("sentence"),
        criteria=criteria,
        tiles=judged.tiles(criteria),
        tally=judged.tally(criteria),
        explanation=explanation,
        together=dict(explanation).get("Together:", ""),
        champion=judged.champion(decision),
        anchor=judged.anchor(decision),
        versus=_versus(run, champion),
        columns=columns,
        systems=systems,
        judges=judged.judges(decision),
        diagnosis=diagnosis,
        hypotheses=[judged.hypothesis(item) for item in diagnosis.get("hypotheses", ())],
        patches=[sources.patch(item) for item in changes],
        measured=[sources.measured(item) for item in changes],
        curves=figures.curves(run.history, gate, figures.answered(rows)),
        scatter=figures.scatter(rows, slopes),
        slopes={name: slope and value_and_interval(slope, "{:.3g}".format) for name, slope in slopes.items()},
        shown=min(figures.MAX_POINTS, int((rows["system"] == "candidate").sum())),
        length=judged.length(decision),
        style=judged.style(decision),
        heats=answers.heats(run.token_kl, rows),
        levels=answers.LEVELS,
        examples=answers.examples(rows),
        card=sources.card_tables(run.card) if run.card else None,
        data=sources.data_card(data) if data else None,
        lineage=sources.facts(decision["inputs"]),
        versions=sources.versions(),
        config=sources.masked(run.params or {"gate": gate}),
    )


def _versus(run: Run, champion: Mapping[str, Any] | None) -> dict[str, Any]:
    """What differs from the champion's run, or from Kellet's defaults where there is no champion."""
    if champion is None:
        parameters = sources.differing(run.params, Config().model_dump(mode="json")) if run.params else []
        return {"name": None, "parameters": parameters, "lineage": []}
    lineage, theirs = run.decision["inputs"], champion.get("lineage") or {}
    origins = [
        (key, str(theirs.get(key, "–")), str(lineage.get(key, "–")))
        for key in ("data_md5", "code_version", "git_commit")
        if theirs.get(key) != lineage.get(key)
    ]
    both_known = run.params and champion.get("config")
    parameters = sources.differing(run.params, champion["config"]) if both_known else []
    return {"name": champion["name"], "parameters": parameters, "lineage": origins}
