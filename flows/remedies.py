"""``python -m flows.remedies --params FILE``: the recommended changes of a diagnosis, measured beside the baseline."""

import sys

from prefect import flow

from adapters.arms import plan_arms, plan_baseline
from adapters.exclusive import one_at_a_time
from adapters.outcome import RemediesOutcome
from adapters.parameters import load
from adapters.tracking import lineage
from flows.cli import run_remedies
from tasks.cleanup import clean_up
from tasks.data import prepare_data
from tasks.programme import begin_look
from tasks.registry import find_rivals, require_rivals
from tasks.remedies import compare_arms, publish, rescore_all, run_arm, run_arms
from tasks.stages import base_model


@flow(name="remedies", flow_run_name="remedies-{params}")
def remedies(params: str = "params.yaml", overrides: tuple[str, ...] = (), parallel: bool = False) -> RemediesOutcome:
    """Run the two recommendations of a retraining's diagnosis, alone and together, and measure their effects.

    Reads: the parameter file, ``section.key=value`` overrides, and the raw data through DVC.
    Writes: artifacts/STAGE/KEY and runs/NAME-remedies: remedies.html, remedies.json, diagnosis.json with the measured
    effects, a folder for each arm, and next.yaml when the gate promotes an arm. Registers and promotes nothing; its
    verdicts are no looks of the programme.
    Parallel: the arms go to the flow's task runner (``--workers``, ``--runner``), or run one after another.
    Repeats: a stage whose inputs, parameters and code are unchanged is not computed again, the baseline's of an earlier
    retraining included. Killed at any moment, the same command completes it.
    Raises: InputError (2) for bad parameters or data, NotPromoted (3) when the baseline comes to no diagnosis.
    """
    config = load(params, overrides)
    with one_at_a_time():
        clean_up(config.tracking)
        data = prepare_data(config)
        origin = lineage(config, data)
        require_rivals(config, origin)
        base = base_model(config, data)
        rivals, asked = find_rivals(config, origin, base), begin_look(config, origin)
        baseline = run_arm(plan_baseline(config), data, base, rivals, asked)
        plans = plan_arms(baseline, params, overrides)
        arms = [baseline, *run_arms(plans, data, base, rivals, asked, parallel)]
        scores = rescore_all(config, base, arms)
        return publish(config, compare_arms(config, arms, scores, origin), arms)


if __name__ == "__main__":
    sys.exit(run_remedies(remedies, remedies.__doc__))
