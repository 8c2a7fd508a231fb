"""What a flow ends in: a verdict that a person can read in runs/NAME, in Prefect and on the terminal."""

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from adapters.artefacts import RECORD, Artefact
from adapters.log import logger, show_markdown, show_table
from adapters.settings import RUNS
from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.errors import NoLift
from kellet.files import atomic_folder, read_json
from kellet.manifest import FILE, check_manifest
from kellet.markdown import code, plain
from kellet.report.run import FILES

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PUBLISHED = {*FILES, "report.html", FILE}
"""What a retraining writes into runs/NAME."""


class Outcome(BaseModel):
    """The verdict of a retraining, and where its files are."""

    name: str
    verdict: str
    headline: str
    reasons: str
    """The criteria that did not pass."""
    programme: str = ""
    """Which look of the programme this was, or that it stands alone."""
    model: str
    """The registered version, as NAME/VERSION."""
    folder: Path
    """runs/NAME"""
    reused: bool = False
    """Nothing had changed since this verdict was reached, so nothing was computed."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate became champion."""
        return self.verdict == "promote"

    @property
    def exit_code(self) -> int:
        """0 for a promotion, 3 for a block or an inconclusive evaluation."""
        return 0 if self.promoted else 3

    def __str__(self) -> str:
        """Several lines for the terminal."""
        unchanged = " (unchanged since this verdict was reached)" if self.reused else ""
        return "\n".join(
            (
                f"{self.name}: {self.verdict.upper()}{unchanged}",
                f"  {self.headline}",
                f"  not passed: {self.reasons}",
                *([f"  {self.programme}"] if self.programme else []),
                f"  model {self.model}; report {self.folder / 'report.html'}",
            )
        )


class RemediesOutcome(BaseModel):
    """What a comparison of arms ends in."""

    name: str
    chosen: str | None
    """The arm that is ready for the next retraining; None when the gate promotes none."""
    table: str
    folder: Path
    """runs/NAME-remedies"""

    @property
    def exit_code(self) -> int:
        """0 when an arm is ready, 3 when none is promoted."""
        return 3 if self.chosen is None else 0

    def __str__(self) -> str:
        """The table for the terminal, and where the files are."""
        following = f"; next: {self.folder / 'next.yaml'}" if self.chosen else ""
        return f"{self.table}\n\n{self.name}: page {self.folder / 'remedies.html'}{following}"


def publish(config: Config, version: "ModelVersion", report: Artefact, reused: bool = False) -> Outcome:
    """Copy the report and its files to runs/NAME, and show the verdict in Prefect's user interface."""
    check_manifest(report.path)
    folder = RUNS / config.name
    set_aside(folder)
    with atomic_folder(folder) as temporary:
        shutil.copytree(report.path, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RECORD))
    outcome = Outcome(
        name=config.name,
        **verdict_of(report.path),
        programme=read_json(report.path / "gate.json").get("programme", {}).get("sentence", ""),
        model=f"{version.name}/{version.version}",
        folder=folder,
        reused=reused,
    )
    _show(outcome)
    logger().info("verdict %s: %s", outcome.verdict, outcome.folder / "report.html")
    return outcome


def verdict_of(report: Path) -> dict[str, str]:
    """Verdict, reasons and headline in the gate.json of a report."""
    decision = read_json(report / "gate.json")
    return {
        "verdict": decision["verdict"],
        "reasons": ", ".join(row["name"] for row in decision["criteria"] if not row["passed"]) or "none",
        "headline": decision["headline"],
    }


def set_aside(folder: Path) -> None:
    """Rename a run's folder that holds what no retraining publishes, such as models of verbs: it is replaced whole."""
    others = sorted(path.name for path in folder.glob("*") if path.name not in PUBLISHED)
    if not others:
        return
    places = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(1))
    kept = next(place for place in places if not place.exists())
    folder.rename(kept)
    logger().warning("%s holds %s, which no retraining wrote; it is kept as %s", folder, ", ".join(others[:6]), kept)


def require_lift(config: Config, reward: Artefact) -> None:
    """Stop the run before any PPO is paid for when the reward model has learned no more than length.

    Raises NoLift after writing the card to runs/NAME, which has nothing else then. When ``reward_model.require_lift``
    is false it only warns.
    """
    from kellet.reward import card

    try:
        card.require_lift(read_json(reward.path / "card.json"))
    except NoLift as error:
        if config.reward_model.require_lift:
            set_aside(RUNS / config.name)
            with atomic_folder(RUNS / config.name) as temporary:
                shutil.copy(reward.path / "card.json", temporary)
                (temporary / "params.yaml").write_text(dump_config(config), encoding="utf-8")
            raise
        logger().warning("%s", error)


def _show(outcome: Outcome) -> None:
    """The verdict as a page and the criteria as a table, in Prefect's user interface."""
    said = plain(outcome.headline)
    markdown = f"## {outcome.verdict}\n\n{said}\n\nModel {plain(outcome.model)}, report in {code(str(outcome.folder))}."
    show_markdown(markdown, f"verdict-{outcome.name}", outcome.verdict)
    criteria = read_json(outcome.folder / "gate.json")["criteria"]
    columns = ("name", "passed", "value", "interval", "threshold", "why")
    rows = [{column: str(criterion.get(column)) for column in columns} for criterion in criteria]
    show_table(rows, f"criteria-{outcome.name}", outcome.headline)
