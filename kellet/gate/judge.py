"""The criterion independent_judge: somebody who was not optimised against has to agree.

Every judge column of the evaluation is accounted for: named (``gate.judge``, ``gate.model_judge``), or declared as
information (``gate.judges_for_information``). A column that nobody accounted for may say that the candidate is worse,
so it leaves the verdict open; a named one that is not in the file is an error.

The margin is one of non-inferiority: a judge who is indifferent passes with a feasible number of comparisons (about 155
at a margin of 0.10, 620 at 0.05, 2,400 at 0.025). It does not excuse what is shown: a win rate whose interval lies
below one half blocks, inside the margin too.

Legend: b is the candidate, a the reference.
"""

from dataclasses import replace

import numpy as np

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.evaluation.answers import Answers, win_rate_by
from kellet.gate.checks import (
    Criterion,
    GateCheck,
    Threshold,
    cannot_tell,
    check_threshold,
    comparisons_needed,
    prompts_needed,
)
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words

BY_DEFAULT = Gate.model_fields["judge"].default
"""The judge that is named where nobody names one; a file without it is no mistake."""


def independent_judge(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Win rate of b over a by the column ``gate.judge`` is above 0.5 - ``judge_margin`` and not shown below 0.5.

    Raises InputError when ``gate.judge`` names a column that the evaluation does not have.
    """
    required, name, limit = "independent_judge" in gate.required, gate.judge, 0.5 - gate.judge_margin
    scored = [column for column in a.judges if not np.isnan(np.append(a.judges[column], b.judges[column])).all()]
    if name not in a.judges and name != BY_DEFAULT:
        raise InputError(
            f"gate.judge names the column {name!r}, which the evaluation does not have; "
            + (f"it has {', '.join(a.judges)}" if a.judges else "it has no column judge_*")
        )
    accounted = {name, *gate.judges_for_information}
    unaccounted = [column for column in scored if column not in accounted]
    checks, notes = [], []
    if unaccounted:
        why = (
            f"nobody accounted for {', '.join(unaccounted)}, which the evaluation has; name the judge that counts with "
            "gate.judge, and list in gate.judges_for_information those that do not"
        )
        checks.append(cannot_tell(Threshold("unaccounted_judges", 0.5, "above", "win rate"), why))
    sizes = [comparisons_needed(rate - limit, rate, gate.alpha) for rate in (0.5, 0.6) if rate > limit]
    if len(sizes) > 1:
        notes.append(
            f"About {sizes[0]:,} judged prompts are enough where the judge is indifferent, {sizes[-1]:,} where it "
            "prefers the candidate in 60%."
        )
    if name not in scored:
        return Criterion("independent_judge", required, tuple(checks), " ".join(notes))
    if name == "judge_reward":
        origin = ["judge_reward is a second reward model, on other pairs of the same labels: it shares their bias."]
    elif name not in ("judge_human", "judge_gold"):
        origin = [f"If {name} is a model trained on the same labels, it shares their bias."]
    else:
        origin = []
    wanted = Threshold("win_rate", limit, "above", "win rate")
    rate = win_rate_by(a, b, name, gate).get("win_rate")
    if rate is None:
        why = (
            f"no prompt and sample has a {name} score for both systems; score the candidate's and the reference's "
            "answer with the same prompt_id and sample"
        )
        checks.append(cannot_tell(wanted, why))
        return Criterion("independent_judge", required, tuple(checks), " ".join([*notes, *origin]))
    subject = f"win rate by {name}"
    if gate.judge_error:
        subject += f", corrected for the {gate.judge_error:.0%} that it gets wrong"
    checks.append(_not_inferior(wanted, subject, rate, sizes[0] if sizes else None, gate))
    return Criterion("independent_judge", required, tuple(checks), " ".join(origin))


def _not_inferior(wanted: Threshold, subject: str, rate: Estimate, indifferent: int | None, gate: Gate) -> GateCheck:
    """Above the limit, and not shown below one half. ``indifferent``: comparisons that an indifferent judge takes."""
    check = check_threshold(wanted, subject, rate, gate.alpha, few=indifferent)
    if rate.high < 0.5 and check.passed is not False and check.estimate is not None and rate.clusters >= 10:
        why = (
            f"{subject[0].upper()}{subject[1:]} {in_words(rate, 'win rate')} over {rate.clusters} {rate.of}: shown to "
            "be below 50.0%, so the judge prefers the reference; the margin is for judges who are not sure."
        )
        return replace(check, passed=False, why=why, needed_prompts=None)
    if check.passed is None and rate.value < 0.5 and check.needed_prompts:
        # As many as show that it is below one half decide too.
        below = prompts_needed(rate, 0.5, gate.alpha)
        return replace(check, needed_prompts=min(check.needed_prompts, below or check.needed_prompts))
    return check
