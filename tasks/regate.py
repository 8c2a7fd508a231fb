"""Judging a registered candidate by people's verdicts, as Prefect tasks."""

from prefect import task

from adapters import candidate as registered
from adapters.artefacts import Artefact, folder, make
from adapters.candidate import Candidate
from adapters.dvc import Dataset, is_busy
from adapters.log import logger
from adapters.outcome import Outcome
from adapters.registry import is_fault
from kellet.config.run import Config
from kellet.evaluation.verdicts import Verdicts
from kellet.files import content_hash
from tasks.outcome import standing


@task(name="find-candidate", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def find_candidate(config: Config, number: int | None = None) -> Candidate:
    """The newest registered version of these parameters, or version ``number``."""
    return registered.find_candidate(config, number)


@task(name="verdicts")
def take_verdicts(config: Config, candidate: Candidate, verdicts: Verdicts) -> Artefact | None:
    """The candidate's evaluation with people's verdicts, or None when its present verdict rests on all of them.

    Raises DataError for sheets that cannot be read or belong to another evaluation, InputError when there are no
    verdicts, or when the candidate would lose some that it was judged by.
    """
    from kellet.evaluation import verdicts as stage
    from kellet.evaluation.file import evaluation_hash
    from kellet.evaluation.spot_check import JUDGE

    model, report = candidate.model, candidate.report
    rows = stage.judged_evaluation(verdicts, config.name, model, candidate.reports)
    before = stage.verdicts_before(rows, report)
    if candidate.judged_by(JUDGE) and not stage.has_news(rows, before):
        return None
    stage.require_none_lost(rows, before, model, report)
    logger().info("people have judged %d answers, %d of them before", rows[JUDGE].count(), before.count())
    inputs = {"rows": evaluation_hash(rows), "token_kl": content_hash(report / "token_kl.json")}
    return make(folder("verdicts", config, inputs), lambda out: stage.write_judged(rows, report, out))


def earlier_verdict(config: Config, candidate: Candidate) -> Outcome:
    """The outcome of a candidate that was judged by these verdicts before."""
    logger().info("%s was judged by these verdicts before", candidate.model)
    return standing(config, candidate.version)


@task(name="restore-data", retries=20, retry_delay_seconds=3, retry_condition_fn=is_busy)
def restore_data(config: Config, candidate: Candidate) -> Dataset:
    """The data that the candidate learned from, whatever the data set is by now."""
    return registered.restore_data(config, candidate)
