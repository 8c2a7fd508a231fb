"""Measured remedies as text: the table for terminal and markdown, the sentences on each arm, remedies.json."""

from collections.abc import Callable, Mapping
from typing import Any

from kellet.markdown import code, plain
from kellet.remedies.effects import Effect
from kellet.remedies.measure import BASELINE, BOTH, FIRST, RULE, SECOND, MeasuredArm, Remedies
from kellet.stats.format import aligned, in_words, percent, rounded, value_and_interval

NOT_COMPARABLE = (
    "Arms with other reward models have rewards in other units and with another zero: a gain by an arm's own reward "
    "model is not compared with another's. Across arms count judges, one reward model on everybody's answers, length, "
    "KL and style."
)
ONE_BY_ONE = "Each interval stands by itself: none is corrected for how many there are."
SAME_PROMPTS = (
    "The arm was chosen on the prompts that judged it, the best of several: its gain is somewhat flattered. A "
    "retraining on new data, or with another seed, judges it afresh."
)
NO_PATCH = (
    "Not measured: the {} recommendation of the diagnosis, which changes no parameter. It says what has to be brought "
    "or repaired first."
)
Row = tuple[str, list[str]]
NOTHING = "–"


def effect_text(effect: Effect | None) -> str:
    """``value [low, high]``, a ratio as a change in percent; a dash without an estimate."""
    if effect is None or effect.estimate is None:
        return NOTHING
    if effect.unit == "ratio":
        return value_and_interval(effect.estimate, lambda ratio: f"{100 * (ratio - 1):z.0f}", "%")
    return rounded(effect.estimate) if effect.unit == "count" else in_words(effect.estimate, effect.unit)


def table(remedies: Remedies) -> list[Row]:
    """Rows of the table: a measure, and a cell for each arm; measures that no arm has are left out."""

    def row(title: str, cell: Callable[[MeasuredArm], str]) -> Row:
        return title, [cell(item) for item in remedies.arms]

    def against(which: str, name: str, title: str) -> Row:
        return row(title, lambda item: effect_text(getattr(item, which).get(name)))

    judge, rival = remedies.judge, remedies.gate.judge
    rows = [row("verdict of the gate", lambda item: item.arm.verdict)]
    for name in dict.fromkeys([judge, rival] if judge else []):
        if f"{name}/win_rate" in remedies.arms[0].reference:
            rows.append(against("reference", f"{name}/win_rate", f"wins over the reference by {name}"))
            rows.append(against("baseline", f"{name}/win_rate", f"wins over the baseline by {name}"))
    if judge:
        rows.append(
            against(
                "reference", f"{judge}/equal_length_win_rate", f"wins over the reference at equal length by {judge}"
            )
        )
        rows.append(against("reference", f"{judge}/gain", f"gain over the reference by {judge}"))
        rows.append(against("baseline", f"{judge}/gain", f"gain over the baseline by {judge}"))
    rows.append(row("own reward, gain over the reference (own units)", _own("gain")))
    rows.append(row("own reward, gain at equal length (own units)", _own("equal_length_gain")))
    for model, users in remedies.reward_models.items():
        by = f"reward model of {' and '.join(users)}"
        rows.append(against("reference", f"reward/{model}/gain", f"gain over the reference by the {by}"))
        rows.append(against("baseline", f"reward/{model}/gain", f"gain over the baseline by the {by}"))
        rows.append(against("reference", f"reward/{model}/equal_length_gain", f"gain at equal length by the {by}"))
    rows += [
        against("reference", "length", "length against the reference"),
        against("baseline", "length", "length against the baseline"),
        against("reference", "kl", "KL from the reference"),
        against("reference", "truncated", "truncated, more than the reference"),
        against("reference", "repetitive", "repetitive, more than the reference"),
    ]
    axes = [name for name in remedies.arms[0].reference if name.startswith("style/") and _moved(remedies, name)]
    rows += [against("reference", name, f"{name.removeprefix('style/')}, more an answer") for name in axes]
    rows.append(row("moved further from the reference", _elsewhere))
    rows.append(row("labels that the reward alone predicts", lambda item: _accuracy(item.arm.card)))
    rows.append(row("processor time", lambda item: _seconds(item.arm.cost)))
    return [one for one in rows if any(cell != NOTHING for cell in one[1])]


def as_text(remedies: Remedies) -> str:
    """The table for a terminal; below it what each arm changes, does and gives up, and which arm is ready."""
    head = ["", *(item.arm.name for item in remedies.arms)]
    text = aligned([head, *([title, *cells] for title, cells in table(remedies))])
    text.insert(1, "-" * min(max(map(len, text)) + 2, 160))
    for item in remedies.arms[1:]:
        text += [
            "",
            f"{item.arm.name}: {changes(item)}",
            *(f"  {line}" for line in [patch(item), *story(item, remedies)]),
        ]
    return "\n".join([*text, "", ready(remedies), NOT_COMPARABLE])


def as_markdown(remedies: Remedies) -> str:
    """The same for markdown."""
    head = ["", *(plain(item.arm.name) for item in remedies.arms)]
    rows = ([plain(title), *map(plain, cells)] for title, cells in table(remedies))
    lines = [head, ["---"] * len(head), *rows]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    for item in remedies.arms[1:]:
        told = plain(" ".join(story(item, remedies)))
        text += ["", f"**{plain(item.arm.name)}**: {plain(changes(item))}. {code(patch(item))} {told}"]
    return "\n".join([*text, "", plain(ready(remedies)), "", f"{NOT_COMPARABLE} {ONE_BY_ONE}"])


def changes(item: MeasuredArm) -> str:
    """What the arm changes, in words."""
    return "; ".join(str(change["change"]) for change in item.arm.changes) or "as it is"


def patch(item: MeasuredArm) -> str:
    """The parameters that the arm changes, as options of the command line."""
    return " ".join(f"--set {key}={value}" for key, value in item.arm.patch.items())


def story(item: MeasuredArm, remedies: Remedies) -> list[str]:
    """Sentences: what was measured, what the arm gives up, and on which style axes it moved further."""
    if item.arm.stopped:
        return [f"Stopped: {item.arm.stopped}"]
    sentences = [outcome(item, remedies), gives_up(item, remedies)]
    paid_more = [axis for axis in item.paid_axes if _more(item, axis)]
    paid_less = [axis for axis in item.paid_axes if axis not in paid_more]
    unpaid = [axis for axis in item.further_axes if axis not in item.paid_axes]
    if paid_more:
        sentences.append(_further(item, paid_more, "its reward pays for more of it: the exploit may have moved there"))
    if paid_less:
        sentences.append(
            _further(item, paid_less, "its reward pays for less of it; read in the answers whether it is missed")
        )
    if unpaid:
        sentences.append(_further(item, unpaid, "its reward is not shown to pay for it"))
    if not item.further_axes:
        sentences.append("On no style axis is it shown further from the reference than the baseline.")
    return sentences


def outcome(item: MeasuredArm, remedies: Remedies) -> str:
    """One sentence on what was measured, to stand in place of the expected effect."""
    parts = []
    rate = item.reference.get(f"{remedies.judge}/win_rate")
    if rate is not None and rate.estimate is not None:
        parts.append(f"{remedies.judge} prefers it to the reference in {effect_text(rate)} of comparisons")
        over = item.baseline.get(f"{remedies.judge}/win_rate")
        if over is not None:
            parts[-1] += f", to the baseline in {effect_text(over)}"
    parts.append(f"length {effect_text(item.reference['length'])} against the reference")
    before = remedies.arm(BASELINE).reference["kl"]
    parts.append(f"KL {effect_text(item.reference['kl'])} (baseline {effect_text(before)})")
    return f"Measured: {'; '.join(parts)}; verdict {item.arm.verdict}."


def gives_up(item: MeasuredArm, remedies: Remedies) -> str:
    """What the arm is shown to lose against the baseline; processor time and label accuracy count without interval."""
    names = [name for name in item.baseline if name in ("kl", "truncated", "repetitive") or name.endswith("/gain")]
    lost = [f"{effect.title} {effect_text(effect)}" for effect in item.worse(names)]
    before = remedies.arm(BASELINE).arm
    mine, theirs = (arm.card.get("accuracy_reward") or {"value": None} for arm in (item.arm, before))
    if mine["value"] is not None and theirs["value"] is not None and mine["value"] < theirs["value"]:
        both = f"{_accuracy(item.arm.card)} (baseline {_accuracy(before.card)})"
        lost.append(f"labels that the reward alone predicts {both}")
    if item.arm.cost is not None and before.cost is not None and item.arm.cost > before.cost:
        lost.append(f"processor time {_seconds(item.arm.cost)} (baseline {_seconds(before.cost)})")
    return f"Gives up, against the baseline: {'; '.join(lost)}." if lost else "It is not shown to give up anything."


def ready(remedies: Remedies) -> str:
    """Which arm is ready for the next retraining, and which recommendation has no arm."""
    made = {item.arm.name for item in remedies.arms}
    unmeasured = [NO_PATCH.format(name) for name in (FIRST, SECOND) if name not in made]
    if remedies.chosen is None:
        text = "No arm is promoted by the gate, so none is ready."
    elif remedies.chosen == BASELINE:
        text = "The baseline itself is promoted and comes first: nothing has to be changed."
    else:
        text = f"Ready for the next retraining: {remedies.chosen}. {SAME_PROMPTS}"
    return " ".join([text, f"Rule: {RULE}", *unmeasured])


def to_dict(remedies: Remedies) -> dict[str, Any]:
    """The content of remedies.json."""
    return {
        "chosen": remedies.chosen,
        "rule": RULE,
        "judge": remedies.judge,
        "prompts": remedies.prompts,
        "reward_models": {model: list(users) for model, users in remedies.reward_models.items()},
        "front": list(remedies.front),
        "arms": [_arm(item, remedies) for item in remedies.arms],
        "notes": [NOT_COMPARABLE, ONE_BY_ONE, *([SAME_PROMPTS] if remedies.chosen not in (None, BASELINE) else [])],
        "inputs": {**remedies.inputs, "interval_alpha": remedies.gate.alpha},
    }


def measured_effects(item: MeasuredArm, remedies: Remedies) -> dict[str, Any]:
    """The field ``measured`` of a recommendation in diagnosis.json."""
    both = next((arm.arm.verdict for arm in remedies.arms if arm.arm.name == BOTH), None)
    measured = {**_arm(item, remedies), "both": both}
    return {key: value for key, value in measured.items() if key not in ("changes", "patch", "own_reward_model")}


def _arm(item: MeasuredArm, remedies: Remedies) -> dict[str, Any]:
    arm = item.arm
    return {
        "arm": arm.name,
        "verdict": arm.verdict,
        "headline": arm.stopped or arm.decision["headline"],
        "not_passed": [row["name"] for row in arm.decision.get("criteria", ()) if row["counted"] and not row["passed"]],
        "changes": [change["change"] for change in arm.changes],
        "patch": dict(arm.patch),
        "own_reward_model": arm.reward_model or None,
        "sentences": story(item, remedies) if arm.name != BASELINE else [],
        "tradeoffs": [change["tradeoff"] for change in arm.changes],
        "moved_further_on": list(item.further_axes),
        "paid_for": list(item.paid_axes),
        "against_reference": {name: effect.to_dict() for name, effect in item.reference.items()},
        "against_baseline": {name: effect.to_dict() for name, effect in item.baseline.items()},
        "label_accuracy": arm.card.get("accuracy_reward"),
        "processor_seconds": dict(arm.seconds),
    }


def _moved(remedies: Remedies, name: str) -> bool:
    """Whether the answers of any arm differ from the reference's on this axis."""
    shifts = [item.reference[name].estimate for item in remedies.arms if item.reference]
    return any(shift is not None and shift.value != 0 for shift in shifts)


def _own(what: str) -> Callable[[MeasuredArm], str]:
    return lambda item: effect_text(item.reference.get(f"reward/{item.arm.reward_model}/{what}"))


def _more(item: MeasuredArm, axis: str) -> bool:
    """Whether the arm moved up on the axis, against baseline and reference alike; else it moved down."""
    return item.baseline[f"style/{axis}"].direction > 0


def _further(item: MeasuredArm, axes: list[str], so: str) -> str:
    moves = []
    for axis in axes:
        baseline, reference = (effect_text(effects[f"style/{axis}"]) for effects in (item.baseline, item.reference))
        moves.append(
            f"{_side(item, axis)} ({baseline} an answer against the baseline, {reference} against the reference)"
        )
    return f"It has {' and '.join(moves)}; {so}."


def _side(item: MeasuredArm, axis: str) -> str:
    return f"{'more' if _more(item, axis) else 'less'} {axis}"


def _elsewhere(item: MeasuredArm) -> str:
    if not item.baseline:
        return NOTHING
    named = [_side(item, axis) + (" (paid)" if axis in item.paid_axes else "") for axis in item.further_axes]
    return ", ".join(named) or "on no axis"


def _accuracy(card: Mapping[str, Any]) -> str:
    share = card.get("accuracy_reward")
    return NOTHING if not share or share.get("value") is None else percent(share, 1)


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f} s"
