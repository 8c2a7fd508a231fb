"""``python -m flows.NAME``: arguments, error lines and exit codes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from adapters import owner
from adapters.command import guarded
from adapters.embedded_server import outlive_ctrl_c
from adapters.outcome import Outcome
from adapters.parameters import load
from kellet.errors import InputError
from kellet.terminal import harmless_output

Retrain = Callable[[str, tuple[str, ...]], Outcome]
Demo = Callable[[], tuple[Outcome, Outcome]]

ARMS = 3
"""Arms beside the baseline: two changes, and both."""
EPILOG = """exit codes: 0 promoted, 3 not promoted, 2 bad usage or input, 1 failure"""


@harmless_output()
def run(retrain: Retrain, doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run one retraining; gives its exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.retrain", description=_summary(doc), epilog=EPILOG)
    _add_parameters(parser)
    given = parser.parse_args(arguments)
    return _guarded(lambda: _retrain(retrain, given.params, tuple(given.overrides)).exit_code)


@harmless_output()
def run_demo(demo: Demo, doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run both retrainings; gives 0 when the naive one was not promoted and the changed one was, else 3."""
    argparse.ArgumentParser(prog="python -m flows.demo", description=_summary(doc), epilog=EPILOG).parse_args(arguments)

    def both() -> int:
        outlive_ctrl_c()
        outcomes = demo()
        _print("\n".join(("", *(str(outcome) for outcome in outcomes), "", table(outcomes))))
        return 0 if [outcome.promoted for outcome in outcomes] == [False, True] else 3

    return _guarded(both)


@harmless_output()
def run_ingest(ingest: Callable[..., str], doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run one ingestion; gives its exit code."""
    codes = "exit codes: 0 ingested (or part of the data already), 2 bad usage or batch, nothing was changed, 1 failure"
    parser = argparse.ArgumentParser(prog="python -m flows.ingest", description=_summary(doc), epilog=codes)
    parser.add_argument("file", metavar="FILE", help="the batch: .jsonl, .jsonl.gz, .csv or .parquet")
    parser.add_argument("--params", required=True, metavar="FILE", help="parameter file of the data set")
    parser.add_argument("--publish", action="store_true", help="push the commit to the branch's upstream as well")
    parser.add_argument(
        "--then", metavar="FLOW/DEPLOYMENT", help="deployment to run afterwards, such as retrain/manual"
    )
    given = parser.parse_args(arguments)

    def work() -> int:
        _begin(given.params)
        _print(ingest(given.file, given.params, given.publish, given.then))
        return 0

    return _guarded(work)


@harmless_output()
def run_remedies(remedies: Any, doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run one comparison of arms; gives 0 when an arm is ready for the next retraining, 3 when none is promoted."""
    from adapters.parallel import room, task_runner

    codes = "exit codes: 0 an arm is promoted by the gate, 3 none is, 2 bad usage or input, 1 failure"
    parser = argparse.ArgumentParser(prog="python -m flows.remedies", description=_summary(doc), epilog=codes)
    _add_parameters(parser)
    at_once = "arms at once, a process each (default: %(default)s)"
    parser.add_argument("--workers", type=int, default=room(ARMS), metavar="N", help=at_once)
    parser.add_argument(
        "--runner", metavar="MODULE:NAME", help="another Prefect task runner, such as prefect_dask:DaskTaskRunner"
    )
    given = parser.parse_args(arguments)

    def work() -> int:
        if given.workers < 1:
            raise InputError(f"--workers got {given.workers}; it takes a number from 1 on")
        _begin(given.params, tuple(given.overrides))
        flow, parallel = remedies, given.workers > 1 or given.runner is not None
        if parallel:
            runner = task_runner(given.workers, given.runner)
            flow = remedies.with_options(task_runner=runner)
        outcome = flow(given.params, tuple(given.overrides), parallel)
        _print(f"\n{outcome}")
        return int(outcome.exit_code)

    return _guarded(work)


@harmless_output()
def run_regate(regate: Callable[..., Outcome], doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Judge one candidate anew; gives the exit code of its verdict."""
    from kellet.evaluation.verdicts import Verdicts

    parser = argparse.ArgumentParser(prog="python -m flows.regate", description=_summary(doc), epilog=EPILOG)
    _add_parameters(parser)
    source = parser.add_mutually_exclusive_group()
    sheets = "filled sheets of 'kellet spot-check export', one of each reviewer"
    source.add_argument("--verdicts", nargs="+", default=[], metavar="FILE", help=sheets)
    judged = "evaluation of 'kellet spot-check import' (default, without --verdicts: spot_checks/NAME.parquet)"
    source.add_argument("--evaluation", metavar="FILE", help=judged)
    parser.add_argument("--key", metavar="FILE", help="key of the sheets (default: spot_checks/NAME.key.json)")
    version = "version of the registered model (default: the newest of these parameters)"
    parser.add_argument("--version", type=int, metavar="N", help=version)
    given = parser.parse_args(arguments)

    def work() -> int:
        if given.key and not given.verdicts:
            raise InputError("--key belongs to the sheets of --verdicts; give those, or neither")
        _begin(given.params, tuple(given.overrides))
        verdicts = Verdicts(sheets=tuple(given.verdicts), key=given.key, evaluation=given.evaluation)
        outcome = regate(given.params, tuple(given.overrides), verdicts, given.version)
        _print(f"\n{outcome}")
        return outcome.exit_code

    return _guarded(work)


@harmless_output()
def run_rollback(rollback: Callable[..., str], doc: str | None, arguments: Sequence[str] | None = None) -> int:
    """Change the champion; gives the exit code."""
    codes = "exit codes: 0 done (or the champion already), 2 bad usage or version, nothing was changed, 1 failure"
    parser = argparse.ArgumentParser(prog="python -m flows.rollback", description=_summary(doc), epilog=codes)
    _add_parameters(parser)
    parser.add_argument("--to", type=int, metavar="N", help="version (default: the one with the alias previous)")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; both versions keep it as a tag")
    parser.add_argument("--force", action="store_true", help="also a version that the gate did not pass")
    given = parser.parse_args(arguments)

    def work() -> int:
        _begin(given.params, tuple(given.overrides))
        _print(rollback(given.params, given.reason, tuple(given.overrides), given.to, given.force))
        return 0

    return _guarded(work)


def table(outcomes: Sequence[Outcome]) -> str:
    """The verdicts side by side."""
    from kellet.stats.format import aligned

    rows = [("retraining", "verdict", "model", "not passed")]
    rows += [(outcome.name, outcome.verdict, outcome.model, outcome.reasons) for outcome in outcomes]
    return "\n".join(aligned(rows))


def _add_parameters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", default="params.yaml", metavar="FILE", help="parameter file (default: params.yaml)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides", help="change one parameter"
    )


def _retrain(retrain: Retrain, params: str, overrides: tuple[str, ...]) -> Outcome:
    _begin(params, overrides)
    outcome = retrain(params, overrides)
    _print(f"\n{outcome}")
    return outcome


def _begin(params: str, overrides: tuple[str, ...] = ()) -> None:
    """Refuse bad parameters before Prefect starts, and keep its embedded server out of the reach of Ctrl-C."""
    load(params, overrides)
    outlive_ctrl_c()


def _guarded(work: Callable[[], int]) -> int:
    owner.sign_children()
    return guarded(work)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _summary(doc: str | None) -> str:
    """The first paragraph of a flow's docstring."""
    return (doc or "").split("\n\n", 1)[0]
