"""``python -m flows.regate --params FILE --verdicts FILE ...``: people's verdicts decide on a registered candidate."""

import sys

from prefect import flow

from adapters.exclusive import one_at_a_time
from adapters.outcome import Outcome
from adapters.parameters import load
from flows.cli import run_regate
from kellet.evaluation.verdicts import Verdicts, by_people
from tasks.cleanup import clean_up
from tasks.outcome import publish
from tasks.programme import take_look_again
from tasks.regate import earlier_verdict, find_candidate, restore_data, take_verdicts
from tasks.registry import describe_champion, judge_anew, promote, require_current
from tasks.stages import decide, diagnose, write_report
from tasks.tracking import track, tracked


@flow(name="regate", flow_run_name="regate-{params}")
def regate(
    params: str = "params.yaml",
    overrides: tuple[str, ...] = (),
    verdicts: Verdicts | None = None,
    number: int | None = None,
) -> Outcome:
    """Judge a registered candidate anew by people's verdicts on its answers, and promote it when it passes.

    Reads: parameter file and overrides as the retraining had them, its newest version in the registry (or version
    ``number``) with the report it was judged from, its data out of DVC, filled sheets or a judged evaluation.
    Writes: artifacts/verdicts, gate, diagnosis and report, a run in MLflow below the retraining's, the version's tags,
    runs/NAME. Trains and samples nothing. The gate's judge is judge_human; every threshold stays. It is one more look.
    Promotes: alias ``champion``, when every criterion passes and the champion is still the one it was compared with.
    Repeats: the same verdicts again give the same outcome and change nothing. Killed at any moment, the same command
    completes it.
    Raises: InputError (2) for other parameters, another champion or verdicts on another evaluation.
    """
    config = load(params, overrides)
    with one_at_a_time():
        clean_up(config.tracking)
        candidate = find_candidate(config, number)
        config = by_people(config)
        evaluation = take_verdicts(config, candidate, verdicts or Verdicts())
        if evaluation is None:
            return earlier_verdict(config, candidate)
        require_current(config.tracking, candidate.version)
        data = restore_data(config, candidate)
        origin, reward, policy = candidate.origin, candidate.reward, candidate.policy
        with tracked(config, data, candidate.run_tags, "regate") as run_id:
            track(config.tracking, run_id, evaluation)
            taken = take_look_again(config, candidate.version, evaluation)
            gate = track(config.tracking, run_id, decide(config, reward, evaluation, origin, taken.look))
            diagnosis = track(config.tracking, run_id, diagnose(config, data, reward, policy, evaluation, origin))
            rival = describe_champion(config, origin, candidate.champion)
            report = write_report(config, data, reward, policy, evaluation, gate, diagnosis, origin, rival)
            version = judge_anew(config.tracking, candidate.version, run_id, report, taken)
            promote(config.tracking, version)
            return publish(config, version, report)


if __name__ == "__main__":
    sys.exit(run_regate(regate, regate.__doc__))
