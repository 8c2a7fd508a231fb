"""``python -m flows.retrain --params FILE``: one retraining from preferences to a verdict."""

import sys

from prefect import flow

from adapters.exclusive import one_at_a_time
from adapters.outcome import Outcome, require_lift
from adapters.parameters import load
from adapters.tracking import lineage
from flows.cli import run
from tasks.cleanup import clean_up
from tasks.data import prepare_data
from tasks.outcome import earlier_outcome, publish
from tasks.programme import begin_look, take_look
from tasks.registry import describe_champion, find_rivals, promote, register, require_rivals
from tasks.stages import (
    base_model,
    decide,
    diagnose,
    evaluate,
    reward_base,
    train_judge,
    train_policy,
    train_reward,
    write_report,
)
from tasks.tracking import track, tracked


@flow(name="retrain", flow_run_name="retrain-{params}")
def retrain(params: str = "params.yaml", overrides: tuple[str, ...] = ()) -> Outcome:
    """Retrain the policy on the newest preferences, and promote it only when its gain is real.

    Reads: the parameter file, ``section.key=value`` overrides, and the raw data through DVC.
    Writes: data/prepared, artifacts/STAGE/KEY, the DVC remote, MLflow runs and one model version, runs/NAME at the end.
    Promotes: alias ``champion``, when every criterion of the gate passes at the level that is left for this look.
    Repeats: a stage whose inputs, parameters and code are unchanged is not computed again; a retraining in which
    nothing has changed gives its earlier verdict. Killed at any moment, the same command completes it.
    Raises: InputError (2) for bad input or a foreign champion, NoLift (3) where the reward model learned only length.
    """
    config = load(params, overrides)
    with one_at_a_time():
        clean_up(config.tracking)
        data = prepare_data(config)
        origin = lineage(config, data)
        if outcome := earlier_outcome(config, origin):
            return outcome
        require_rivals(config, origin)
        asked = begin_look(config, origin)
        with tracked(config, data, origin) as run_id:
            base = track(config.tracking, run_id, base_model(config, data))
            scored_on = reward_base(config, base)
            reward = track(config.tracking, run_id, train_reward(config, data, scored_on))
            require_lift(config, reward)
            policy = track(config.tracking, run_id, train_policy(config, data, base, reward, scored_on))
            rivals = find_rivals(config, origin, base)
            judge = train_judge(config, data, scored_on) if config.evaluation.judge else None
            if judge:
                track(config.tracking, run_id, judge)
            drawn = evaluate(config, data, base, reward, policy, rivals, scored_on, judge, asked)
            evaluation, look = taken = take_look(config, origin, policy, drawn, rivals)
            track(config.tracking, run_id, evaluation)
            gate = track(config.tracking, run_id, decide(config, reward, evaluation, origin, look))
            diagnosis = track(config.tracking, run_id, diagnose(config, data, reward, policy, evaluation, origin))
            rival = describe_champion(config, origin, rivals.get("champion"))
            report = write_report(config, data, reward, policy, evaluation, gate, diagnosis, origin, rival)
            version = register(config, origin, run_id, base, policy, report, rivals, taken)
            promote(config.tracking, version)
            return publish(config, version, report)


if __name__ == "__main__":
    sys.exit(run(retrain, retrain.__doc__))
