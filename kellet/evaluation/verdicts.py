"""People's verdicts on a candidate that was evaluated before: which evaluation they belong to, and which are new.

People may have judged the candidate in several rounds. Each round wrote a report; the evaluations of all reports have
the same answers, and each has more verdicts in judge_human than the one before.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from kellet.config.run import Config
from kellet.errors import DataError, InputError
from kellet.evaluation.file import evaluation_hash, read_evaluation
from kellet.evaluation.spot_check import JUDGE, add_verdicts, read_key, read_verdicts
from kellet.files import atomic_folder
from kellet.manifest import write_manifest

SHEETS = Path("spot_checks")
"""Where ``kellet spot-check`` keeps keys and judged evaluations."""


class Verdicts(BaseModel):
    """Files with people's verdicts: filled sheets with their key, or an evaluation that has the verdicts already."""

    sheets: tuple[str, ...] = ()
    key: str | None = None
    """Of the sheets; default: spot_checks/NAME.key.json."""
    evaluation: str | None = None
    """Default, without sheets: spot_checks/NAME.parquet."""


def by_people(config: Config) -> Config:
    """The parameters with people as the gate's independent judge; thresholds stay, the other judge's error goes."""
    if config.gate.judge == JUDGE:
        return config
    information = (*config.gate.judges_for_information, config.gate.judge)
    replaced = {"judge": JUDGE, "judge_error": 0.0, "judges_for_information": information}
    return config.model_copy(update={"gate": config.gate.model_copy(update=replaced)})


def judged_evaluation(verdicts: Verdicts, name: str, model: str, reports: Sequence[Path]) -> pd.DataFrame:
    """The candidate's evaluation with people's verdicts in judge_human.

    ``name``: of the parameters, for the default files; ``model``: the candidate, for messages; ``reports``: folders of
    its reports, the newest first. Raises DataError for files that cannot be read or belong to another evaluation,
    InputError when a file is missing or nobody has judged yet.
    """
    rows = (_from_sheets if verdicts.sheets else _from_evaluation)(verdicts, name, model, reports)
    if not rows[JUDGE].notna().any():
        raise InputError(f"column {JUDGE} is empty in every row; nobody has judged yet (kellet spot-check)")
    return rows


def verdicts_before(rows: pd.DataFrame, report: Path) -> "pd.Series[float]":
    """judge_human of the report's evaluation, in the order of ``rows``; NaN where people had not judged."""
    before = read_evaluation(report / "evaluation.parquet")
    return before[JUDGE] if JUDGE in before else pd.Series(float("nan"), index=rows.index)


def has_news(rows: pd.DataFrame, before: "pd.Series[float]") -> bool:
    """Whether any verdict in ``rows`` is new or differs from the one before."""
    given = rows[JUDGE].notna()
    return not (before[given] == rows[JUDGE][given]).all()


def require_none_lost(rows: pd.DataFrame, before: "pd.Series[float]", model: str, report: Path) -> None:
    """Raise InputError when answers that people had judged before have no verdict in ``rows``."""
    if lost := int((before.notna() & rows[JUDGE].isna()).sum()):
        raise InputError(
            f"{model} was judged by verdicts on {lost} more answers than these; draw the next sheet from "
            f"{report / 'evaluation.parquet'} (kellet spot-check export FILE), or give all sheets of the last one"
        )


def write_judged(rows: pd.DataFrame, report: Path, out: Path) -> None:
    """Write the judged evaluation, with the KL by token that belongs to it, as the folder ``out``."""
    with atomic_folder(out) as temporary:
        rows.to_parquet(temporary / "evaluation.parquet", index=False)
        shutil.copy(report / "token_kl.json", temporary)
        write_manifest(temporary, "evaluation")


def _from_evaluation(verdicts: Verdicts, name: str, model: str, reports: Sequence[Path]) -> pd.DataFrame:
    """The evaluation that ``kellet spot-check import`` wrote, if its answers are the candidate's."""
    file = Path(verdicts.evaluation or SHEETS / f"{name}.parquet")
    if not file.is_file():
        raise InputError(
            f"{file} does not exist; 'kellet spot-check import' writes it, or give the filled sheets with --verdicts"
        )
    tables = [read_evaluation(path) for path in (file, reports[0] / "evaluation.parquet")]
    hashes = {evaluation_hash(table.drop(columns=JUDGE, errors="ignore")) for table in tables}
    if len(hashes) != 1:
        raise DataError(
            f"{file} is not the evaluation of {model}: other answers, rewards or columns; name the version "
            "with --version, or another file with --evaluation"
        )
    rows = tables[0]
    return rows if JUDGE in rows else rows.assign(**{JUDGE: float("nan")})


def _from_sheets(verdicts: Verdicts, name: str, model: str, reports: Sequence[Path]) -> pd.DataFrame:
    """The candidate's evaluation that the sheets were drawn from, with their verdicts."""
    sheets = [Path(sheet) for sheet in verdicts.sheets]
    for sheet in sheets:
        if not sheet.is_file():
            raise InputError(
                f"{sheet} does not exist; --verdicts takes the filled sheets of 'kellet spot-check export'"
            )
    key_file = Path(verdicts.key or SHEETS / f"{name}.key.json")
    key = read_key(key_file)
    given = read_verdicts(sheets, key)
    for report in reports:
        rows = read_evaluation(report / "evaluation.parquet")
        if evaluation_hash(rows) == key["evaluation_rows_sha256"]:
            return add_verdicts(rows, key, given)
    raise DataError(
        f"the sheets of {key_file} were drawn from another evaluation than that of {model}; name the version "
        "with --version, or the sheets' key with --key"
    )
