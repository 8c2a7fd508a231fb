"""A registered candidate, with what gate, diagnosis and report read of it.

All of it is in the folder of its report (tag ``report``), its data in DVC. An evaluation that people have judged is a
new file, artifacts/verdicts/KEY; those of earlier rounds stay where they are. Each run of flows/regate.py has the
report that it began with as a tag, so that sheets drawn from an earlier evaluation can still be recognised.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.artefacts import Artefact
from adapters.data_history import restore
from adapters.dvc import Dataset, read_dataset
from adapters.log import logger
from adapters.mlflow_client import client, run_file
from adapters.registered import IDENTITY, require_tags
from kellet.config.file import dump_config, load_config
from kellet.config.run import Config
from kellet.errors import ConfigError, InputError
from kellet.files import content_hash, read_json
from kellet.manifest import check_manifest

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LINEAGE = ("retraining_key", "data", "data_md5", "config_hash", "code_version", "git_commit", "git_dirty")
JUDGED = (*IDENTITY, "compared_with", "verdict", "reasons", "headline", "report")
"""The tags of a version that was judged."""
FILES = ("evaluation.parquet", "token_kl.json", "history.jsonl", "card.json", "gate.json")
"""What a candidate is judged from, in the folder of its report."""


@dataclass(frozen=True)
class Candidate:
    """A registered version and the reports that it was judged from."""

    version: "ModelVersion"
    reports: tuple[Path, ...]
    """Folders of its reports, the newest first."""

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
        """The champion that its evaluation compares it with, None without one; its folder is not the champion's."""
        compared = self.version.tags["compared_with"]
        return None if compared == "none" else Artefact(stage="champion", path=self.report, hash=compared)

    def judged_by(self, judge: str) -> bool:
        """Whether its present verdict rests on this judge, and the report of that verdict exists."""
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


def find_candidate(config: Config, number: int | None = None) -> Candidate:
    """The newest registered version of these parameters, or version ``number``, which must be of these parameters.

    Versions that Kellet did not register are passed over. Raises InputError when none is left, when ``number`` is one
    of those, or when the files that it was judged from are gone.
    """
    name = config.tracking.registered_model
    registered = client(config.tracking.uri).search_model_versions(f"name = '{name}'", max_results=1000)
    newest_first = sorted(registered, key=lambda version: -int(version.version))
    asked = [version for version in newest_first if number == int(version.version)]
    for version in asked:
        require_tags(version, "name a version that flows.retrain registered", *LINEAGE, *JUDGED)
    if number is None:
        asked = [version for version in newest_first if all(version.tags.get(tag) for tag in (*LINEAGE, *JUDGED))]
    given = dump_config(config)
    version = next((version for version in asked if _parameters(config, version) == given), None)
    if version is None:
        which = (
            f"none of the {len(newest_first)} versions of {name!r}" if number is None else f"no version {name}/{number}"
        )
        raise InputError(
            f"{which} is registered with these parameters; give --params and --set as the retraining had them"
        )
    if not (reports := _reports(config, version)):
        raise InputError(
            f"{version.tags['report']} has not all the files that {name}/{version.version} was judged from "
            f"({', '.join(FILES)}); the retraining, given again, makes them again"
        )
    check_manifest(reports[0])
    return Candidate(version, reports)


def restore_data(config: Config, candidate: Candidate) -> Dataset:
    """The data that the candidate learned from, whatever the data set is by now."""
    version = candidate.version
    target = Path("data/restored", f"{version.name}-{version.version}")
    if not target.is_dir():
        restore(candidate.model, config.tracking, target)
    data = read_dataset(version.tags["data"], target, version.tags["data_md5"])
    logger().info("data %s", data)
    return data


def _reports(config: Config, version: "ModelVersion") -> tuple[Path, ...]:
    """The folders of the version's report and of those before people judged, as far as they still exist."""
    server, model = client(config.tracking.uri), f"{version.name}/{version.version}"
    experiment = server.get_experiment_by_name(config.tracking.experiment)
    runs = server.search_runs([experiment.experiment_id], f"tags.regates = '{model}'") if experiment else []
    folders = dict.fromkeys([version.tags["report"], *(run.data.tags.get("report_before", "") for run in runs)])
    return tuple(Path(report) for report in folders if all((Path(report) / file).is_file() for file in FILES))


def _parameters(config: Config, version: "ModelVersion") -> str | None:
    """The parameters of the version's retraining, settings added to Kellet since then at their defaults; masked.

    None when they cannot be read.
    """
    from mlflow.exceptions import MlflowException

    try:
        return dump_config(load_config(run_file(config.tracking.uri, version.run_id, "params.yaml")))
    except (MlflowException, ConfigError) as error:
        logger().warning("the parameters of %s/%s cannot be read: %s", version.name, version.version, error)
        return None
