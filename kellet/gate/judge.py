"""The criterion independent_judge: somebody who was not optimised against has to agree.

Every judge column of the evaluation is accounted for: named (``gate.judge``, ``gate.model_judge``), or declared as
information (``gate.judges_for_information``). A column that nobody accounted for may say that the candidate is worse,
so it leaves the verdict open; a named one that is not in the file is an error.

The margin is one of non-inferiority: a judge who is indifferent passes with a feasible number of comparisons (about 155
at a margin of 0.10, 620 at 0.05, 2,500 at 0.025). It does not excuse what is shown: a win rate whose interval lies
below one half blocks, inside the margin too.

Where people judged some pairs and a model all of them (``gate.model_judge``), both kinds of labels give the win rate by
people (kellet/stats/prediction_powered.py). A model without people decides nothing.

Legend: b is the candidate, a the reference.
"""

from dataclasses import replace

import numpy as np

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.evaluation.answers import Answers, pairs, win_rate_by, wins
from kellet.gate.checks import (
    MIN_PROMPTS,
    POWER,
    Criterion,
    GateCheck,
    Threshold,
    cannot_tell,
    check_threshold,
    comparisons_needed,
    prompts_needed,
)
from kellet.stats.bootstrap import Estimate, Floats
from kellet.stats.format import in_words
from kellet.stats.prediction_powered import labels_needed, prediction_powered
from kellet.stats.win_rate import corrected

BY_DEFAULT = Gate.model_fields["judge"].default
"""The judge that is named where nobody names one; a file without it is no mistake."""


def independent_judge(a: Answers, b: Answers, gate: Gate, nominal: Gate | None = None) -> Criterion:
    """Win rate of b over a by the column ``gate.judge`` is above 0.5 - ``judge_margin`` and not shown below 0.5.

    ``nominal`` is the gate at the level that was asked for, where ``gate`` has the smaller one of a look: at that one
    a win rate is shown to be below one half.
    Raises InputError when ``gate.judge`` or ``gate.model_judge`` names a column that the evaluation does not have.
    """
    required, name, limit = "independent_judge" in gate.required, gate.judge, 0.5 - gate.judge_margin
    scored = [column for column in a.judges if not np.isnan(np.append(a.judges[column], b.judges[column])).all()]
    for parameter, column in (("gate.judge", name), ("gate.model_judge", gate.model_judge)):
        if column is not None and column not in a.judges and column != BY_DEFAULT:
            raise InputError(
                f"{parameter} names the column {column!r}, which the evaluation does not have; "
                + (f"it has {', '.join(a.judges)}" if a.judges else "it has no column judge_*")
            )
    accounted = {name, gate.model_judge, *gate.judges_for_information}
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
    if name not in scored and gate.model_judge is None:
        return Criterion("independent_judge", required, tuple(checks), " ".join(notes))
    if name == "judge_reward":
        origin = ["judge_reward is a second reward model, on other pairs of the same labels: it shares their bias."]
    elif name not in ("judge_human", "judge_gold"):
        origin = [f"If {name} is a model trained on the same labels, it shares their bias."]
    else:
        origin = []
    wanted = Threshold("win_rate", limit, "above", "win rate")
    needed, nominal = None, nominal or gate
    if gate.model_judge is not None:
        rate, needed, note = human_win_rate(a, b, gate)
        against, origin = rate if nominal is gate else human_win_rate(a, b, nominal)[0], [note]
    else:
        rate = win_rate_by(a, b, name, gate).get("win_rate")
        against = rate if nominal is gate else win_rate_by(a, b, name, nominal).get("win_rate")
    if rate is None or against is None:
        why = (
            f"no prompt and sample has a {name} score for both systems; score the candidate's and the reference's "
            "answer with the same prompt_id and sample"
        )
        checks.append(cannot_tell(wanted, why))
        return Criterion("independent_judge", required, tuple(checks), " ".join([*notes, *origin]))
    subject = f"win rate by {name}"
    if gate.judge_error:
        subject += f", corrected for the {gate.judge_error:.0%} that it gets wrong"
    checks.append(_not_inferior(wanted, subject, (rate, against), sizes[0] if sizes else None, gate, needed))
    return Criterion("independent_judge", required, tuple(checks), " ".join(origin))


def human_win_rate(a: Answers, b: Answers, gate: Gate) -> tuple[Estimate | None, int | None, str]:
    """Win rate of b over a by ``gate.judge``, helped by ``gate.model_judge``; the labels that would decide; a note.

    The rate is None where the judge compared no pair, the number of labels where it cannot be told.
    """
    rows_a, rows_b = pairs(a, b)
    unknown = np.full(len(rows_a), np.nan)

    def labels(column: str) -> Floats:
        return wins(a.judges[column][rows_a], b.judges[column][rows_b]) if column in a.judges else unknown

    model = str(gate.model_judge)
    group = None if a.group is None else a.group[rows_a]
    powered = prediction_powered(labels(gate.judge), labels(model), a.prompt[rows_a], group, alpha=gate.alpha)
    if not powered.labelled:
        return None, None, f"{model} alone decides nothing."
    rate, alone = (corrected(item, gate.judge_error) for item in (powered.estimate, powered.alone))
    rate = replace(rate, of=f"{powered.estimate.of} judged by {gate.judge}")
    distance = abs(rate.value - (0.5 - gate.judge_margin)) * (1 - 2 * gate.judge_error)
    observed = powered.estimate.value
    needed = labels_needed(distance, observed, powered.correlation, powered.prompts, gate.alpha, POWER)
    needed = None if needed is None else max(needed, powered.labelled + 1)
    widths = [item.high - item.low for item in (powered.estimate, powered.alone)]
    shorter = 1 - widths[0] / widths[1] if widths[1] else 0.0
    note = (
        f"{gate.judge} judged {powered.labelled:,} of {powered.prompts:,} prompts; with the judgements of {model} "
        f"(correlation {powered.correlation:.2f}, λ = {powered.tuning:.2f}) the interval is {shorter:.0%} shorter than "
        f"without, which is {in_words(alone, 'win rate')}."
    )
    return rate, needed, note


def _not_inferior(
    wanted: Threshold,
    subject: str,
    rates: tuple[Estimate, Estimate],
    indifferent: int | None,
    gate: Gate,
    needed: int | None = None,
) -> GateCheck:
    """Above the limit, and not shown below one half.

    ``rates``: at the level of the check, and at the one at which it is shown to be below one half. ``indifferent``:
    comparisons that a judge who is indifferent takes.
    """
    rate, against = rates
    check = check_threshold(wanted, subject, rate, gate.alpha, needed, few=indifferent)
    if against.high < 0.5 and check.passed is not False and rate.clusters >= MIN_PROMPTS:
        sentence = subject[0].upper() + subject[1:]
        why = (
            f"{sentence} {in_words(against, 'win rate')} over {rate.clusters} {rate.of}: shown to "
            "be below 50.0%, so the judge prefers the reference; the margin is for judges who are not sure."
        )
        return replace(check, passed=False, why=why, needed_prompts=None)
    if check.passed is None and rate.value < 0.5 and check.needed_prompts:
        # As many as show that it is below one half decide too.
        below = prompts_needed(rate, 0.5, gate.alpha)
        return replace(check, needed_prompts=min(check.needed_prompts, below or check.needed_prompts))
    return check
