"""People's verdicts on a registered candidate: its evaluation with judge_human filled, and what it is judged from.

Everything is in the folder of the candidate's report (tag ``report``), its data in DVC. An evaluation that people have
judged is a new file, artifacts/verdicts/KEY; those of earlier rounds stay where they are, and each run in MLflow names
the report it began with, so that a sheet can be told to belong to one of them.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from pydantic import BaseModel

from adapters.artefacts import Artefact, folder, make
from adapters.dvc import Dataset, is_busy, read_dataset
from adapters.log import logger
from adapters.outcome import Outcome
from adapters.registry import is_fault
from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.errors import ConfigError, DataError, InputError
from kellet.files import atomic_folder, content_hash
from tasks.outcome import standing
from tasks.stages import read_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SHEETS = Path("spot_checks")
"""Where ``kellet spot-check`` keeps keys and judged evaluations."""
LINEAGE = ("retraining_key", "data", "data_md5", "config_hash", "code_version", "git_commit", "git_dirty")
FILES = ("evaluation.parquet", "token_kl.json", "history.jsonl", "card.json", "gate.json")
"""What a candidate is judged from, in the folder of its report."""


class Verdicts(BaseModel):
    """What people said: filled sheets with their key, or an evaluation that has their verdicts already."""

    sheets: tuple[str, ...] = ()
    key: str | None = None
    """Of the sheets; default: spot_checks/NAME.key.json."""
    evaluation: str | None = None
    """Default, without sheets: spot_checks/NAME.parquet."""


@dataclass(frozen=True)
class Candidate:
    """A registered version, and what gate, diagnosis and report read of it."""

    version: "ModelVersion"
    reports: tuple[Path, ...]
    """Folders of the report that it was judged from last, and of those before."""

    @property
    def model(self) -> str:
        """NAME/VERSION."""
        return f"{self.version.name}/{self.version.version}"

    @property
    def report(self) -> Path:
        """The folder that its verdict was made from."""
        return self.reports[0]

    @property
    def origin(self) -> dict[str, str]:
        """Where its retraining came from."""
        return {name: self.version.tags[name] for name in LINEAGE}

    @property
    def reward(self) -> Artefact:
        """The card of its reward model."""
        return Artefact(stage="reward_model", path=self.report, hash=content_hash(self.report / "card.json"))

    @property
    def policy(self) -> Artefact:
        """The history of its policy's training."""
        return Artefact(stage="policy", path=self.report, hash=self.version.tags["policy_hash"])

    @property
    def champion(self) -> Artefact | None:
        """Whom its evaluation compares it with; only says whether there was one."""
        compared = self.version.tags["compared_with"]
        return None if compared == "none" else Artefact(stage="champion", path=self.report, hash=compared)

    def judged_by(self, judge: str) -> bool:
        """Whether its verdict rests on this judge and the report of it is there."""
        judged = str(read_json(self.report / "gate.json")["config"]["judge"])
        return judged == judge and str(self.report) == str(self.version.tags["report"])

    @property
    def run_tags(self) -> dict[str, str]:
        """Tags of the run that judges it anew: its lineage, and what the run is linked to."""
        return {
            **self.origin,
            "mlflow.parentRunId": str(self.version.run_id),
            "stage": "regate",
            "regates": self.model,
            "report_before": str(self.report),
            "verdict_before": str(read_json(self.report / "gate.json")["verdict"]),
        }


@task(name="find-candidate", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def find_candidate(config: Config, number: int | None = None) -> Candidate:
    """The newest registered version of these parameters, or version ``number``, which must be of these parameters.

    Raises InputError when there is none, or when the files that it was judged from are gone.
    """
    name = config.tracking.registered_model
    found = _client(config).search_model_versions(f"name = '{name}'", max_results=1000)
    versions = sorted(found, key=lambda version: -int(version.version))
    asked = [version for version in versions if number in (None, int(version.version))]
    version = next((each for each in asked if _parameters(config, each) == config), None)
    if version is None:
        which = f"none of the {len(asked)} versions of {name!r}" if number is None else f"no version {name}/{number}"
        raise InputError(
            f"{which} is registered with these parameters; give --params and --set as the retraining had them"
        )
    if not (reports := _reports(config, version)):
        raise InputError(
            f"{version.tags['report']} has not all the files that {name}/{version.version} was judged from "
            f"({', '.join(FILES)}); the retraining, given again, makes them again"
        )
    return Candidate(version, reports)


def by_people(config: Config) -> Config:
    """The parameters with people as the gate's independent judge; thresholds stay, the other judge's error goes."""
    from kellet.evaluation.spot_check import JUDGE

    if config.gate.judge == JUDGE:
        return config
    return config.model_copy(update={"gate": config.gate.model_copy(update={"judge": JUDGE, "judge_error": 0.0})})


@task(name="verdicts")
def take_verdicts(config: Config, candidate: Candidate, verdicts: Verdicts) -> Artefact | None:
    """The candidate's evaluation with people's verdicts, or None when it was judged by all of them before.

    Raises DataError for sheets that cannot be read or belong to another evaluation, InputError when there are no
    verdicts, or when the candidate would lose some that it was judged by.
    """
    from kellet.evaluation.file import evaluation_hash, read_evaluation
    from kellet.evaluation.spot_check import JUDGE

    report = candidate.report
    before = read_evaluation(report / "evaluation.parquet")
    rows = _judged(config, candidate, verdicts) if verdicts.sheets else _collected(config, candidate, verdicts)
    said = rows[JUDGE].notna()
    known = before.get(JUDGE, rows[JUDGE].mask(said))
    if not said.any():
        raise InputError(f"column {JUDGE} is empty in every row; nobody has judged yet (kellet spot-check)")
    if candidate.judged_by(JUDGE) and (known[said] == rows[JUDGE][said]).all():
        return None
    if lost := int((known.notna() & ~said).sum()):
        raise InputError(
            f"{candidate.model} was judged by verdicts on {lost} more answers than these; draw the next sheet from "
            f"{report / 'evaluation.parquet'} (kellet spot-check export FILE), or give all sheets of the last one"
        )
    logger().info("people have judged %d answers, %d of them before", int(said.sum()), int(known.notna().sum()))

    def write(out: Path) -> None:
        with atomic_folder(out) as temporary:
            rows.to_parquet(temporary / "evaluation.parquet", index=False)
            shutil.copy(report / "token_kl.json", temporary)

    inputs = {"rows": evaluation_hash(rows), "token_kl": content_hash(report / "token_kl.json")}
    return make(folder("verdicts", config, inputs), write)


def earlier_verdict(config: Config, candidate: Candidate) -> Outcome:
    """The outcome of a candidate that was judged by these verdicts before."""
    logger().info("%s was judged by these verdicts before", candidate.model)
    return standing(config, candidate.version)


@task(name="restore-data", retries=20, retry_delay_seconds=3, retry_condition_fn=is_busy)
def restore_data(config: Config, candidate: Candidate) -> Dataset:
    """The data that the candidate learned from, whatever the data set is by now."""
    from adapters.data_history import restore

    version = candidate.version
    target = Path("data/restored", f"{version.name}-{version.version}")
    if not target.is_dir():
        restore(candidate.model, config.tracking, target)
    data = read_dataset(version.tags["data"], target, version.tags["data_md5"])
    logger().info("data %s", data)
    return data


def _collected(config: Config, candidate: Candidate, verdicts: Verdicts) -> "pd.DataFrame":
    """The evaluation that ``kellet spot-check import`` wrote, if its answers are the candidate's."""
    from kellet.evaluation.file import evaluation_hash, read_evaluation
    from kellet.evaluation.spot_check import JUDGE

    file = Path(verdicts.evaluation or SHEETS / f"{config.name}.parquet")
    if not file.is_file():
        raise InputError(
            f"{file} does not exist; 'kellet spot-check import' writes it, or give the filled sheets with --verdicts"
        )
    rows, own = (read_evaluation(place) for place in (file, candidate.report / "evaluation.parquet"))
    hashes = {evaluation_hash(each.drop(columns=JUDGE, errors="ignore")) for each in (rows, own)}
    if len(hashes) != 1:
        raise DataError(
            f"{file} is not the evaluation of {candidate.model}: other answers, rewards or columns; name the version "
            "with --version, or another file with --evaluation"
        )
    return rows if JUDGE in rows else rows.assign(**{JUDGE: float("nan")})


def _judged(config: Config, candidate: Candidate, verdicts: Verdicts) -> "pd.DataFrame":
    """The candidate's evaluation that the sheets were drawn from, with their verdicts."""
    from kellet.evaluation.file import evaluation_hash, read_evaluation
    from kellet.evaluation.spot_check import add_verdicts, read_key, read_verdicts

    sheets = [Path(sheet) for sheet in verdicts.sheets]
    for sheet in sheets:
        if not sheet.is_file():
            raise InputError(
                f"{sheet} does not exist; --verdicts takes the filled sheets of 'kellet spot-check export'"
            )
    place = Path(verdicts.key or SHEETS / f"{config.name}.key.json")
    key = read_key(place)
    said = read_verdicts(sheets, key)
    for report in candidate.reports:
        rows = read_evaluation(report / "evaluation.parquet")
        if evaluation_hash(rows) == key["evaluation_rows_sha256"]:
            return add_verdicts(rows, key, said)
    raise DataError(
        f"the sheets of {place} were drawn from another evaluation than that of {candidate.model}; name the version "
        "with --version, or the sheets' key with --key"
    )


def _reports(config: Config, version: "ModelVersion") -> tuple[Path, ...]:
    """The folders, as far as they are there, of the version's report and of those that it had before people judged."""
    client, model = _client(config), f"{version.name}/{version.version}"
    found = client.get_experiment_by_name(config.tracking.experiment)
    runs = client.search_runs([found.experiment_id], f"tags.regates = '{model}'") if found else []
    named = dict.fromkeys([version.tags["report"], *(run.data.tags["report_before"] for run in runs)])
    return tuple(Path(report) for report in named if all((Path(report) / file).is_file() for file in FILES))


def _parameters(config: Config, version: "ModelVersion") -> Config | None:
    """The parameters of the version's retraining, settings that came later at their defaults; None where unknown."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        uri = config.tracking.uri
        file = download_artifacts(run_id=version.run_id, artifact_path="params.yaml", tracking_uri=uri)
        return load_config(Path(file))
    except (MlflowException, ConfigError) as error:
        logger().warning("the parameters of %s/%s cannot be read: %s", version.name, version.version, error)
        return None


def _client(config: Config) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(config.tracking.uri, config.tracking.uri)
