"""Measured remedies in words: the table of the terminal and of markdown, the sentence of an arm, remedies.json."""

from collections.abc import Callable, Mapping
from typing import Any

from kellet.remedies.effects import Effect
from kellet.remedies.measure import BASELINE, BOTH, RULE, Measured, Remedies
from kellet.stats.format import in_words, percent, rounded

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
Row = tuple[str, list[str]]
NOTHING = "–"


def words(effect: Effect | None) -> str:
    """``value [low, high]`` as a reader wants it; a ratio as a change in percent."""
    if effect is None or effect.estimate is None:
        return NOTHING
    if effect.unit == "ratio":
        one = effect.estimate
        return percent(type(one)(one.value - 1, one.low - 1, one.high - 1, one.clusters))
    return rounded(effect.estimate) if effect.unit == "count" else in_words(effect.estimate, effect.unit)


def table(found: Remedies) -> list[Row]:
    """Rows of the table: a measure and its cell for each arm."""

    def row(title: str, cell: Callable[[Measured], str]) -> Row:
        return title, [cell(item) for item in found.arms]

    def against(which: str, name: str, title: str) -> Row:
        return row(title, lambda item: words(getattr(item, which).get(name)))

    judge, rival = found.judge, found.gate.judge
    rows = [row("verdict of the gate", lambda item: item.arm.verdict)]
    for name in dict.fromkeys([judge, rival] if judge else []):
        if f"{name}/win_rate" in found.arms[0].reference:
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
    for model, users in found.reward_models.items():
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
    axes = [name for name in found.arms[0].reference if name.startswith("style/") and _moved(found, name)]
    rows += [against("reference", name, f"{name.removeprefix('style/')}, more an answer") for name in axes]
    rows.append(row("moved further from the reference", _elsewhere))
    rows.append(row("labels that the reward alone predicts", lambda item: _accuracy(item.arm.card)))
    rows.append(row("processor time", lambda item: _seconds(item.arm.cost)))
    return [one for one in rows if any(cell != NOTHING for cell in one[1])]


def as_text(found: Remedies) -> str:
    """The table for a terminal, and beneath it what every arm changes and gives up, and which is ready."""
    rows: list[Row] = [("", [item.arm.name for item in found.arms]), *table(found)]
    lines = [[title, *cells] for title, cells in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    text.insert(1, "-" * min(sum(widths) + 2 * len(widths), 160))
    for item in found.arms[1:]:
        text += ["", f"{item.arm.name}: {changes(item)}", *(f"  {line}" for line in [patch(item), *story(item, found)])]
    return "\n".join([*text, "", ready(found), NOT_COMPARABLE])


def as_markdown(found: Remedies) -> str:
    """The same as markdown."""
    head = ["", *(item.arm.name for item in found.arms)]
    lines = [head, ["---"] * len(head), *([title, *cells] for title, cells in table(found))]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    for item in found.arms[1:]:
        text += ["", f"**{item.arm.name}**: {changes(item)}. `{patch(item)}` {' '.join(story(item, found))}"]
    return "\n".join([*text, "", ready(found), "", f"{NOT_COMPARABLE} {ONE_BY_ONE}"])


def changes(item: Measured) -> str:
    """What the arm changes, in words."""
    return "; ".join(str(change["change"]) for change in item.arm.changes) or "as it is"


def patch(item: Measured) -> str:
    """What it changes as options."""
    return " ".join(f"--set {key}={value}" for key, value in item.arm.patch.items())


def story(item: Measured, found: Remedies) -> list[str]:
    """Sentences: what came out, what it gives up, where the exploit went."""
    if item.arm.stopped:
        return [f"Stopped: {item.arm.stopped}"]
    sentences = [outcome(item, found), gives_up(item, found)]
    paid_more = [axis for axis in item.paid if _more(item, axis)]
    paid_less = [axis for axis in item.paid if axis not in paid_more]
    unpaid = [axis for axis in item.elsewhere if axis not in item.paid]
    if paid_more:
        sentences.append(_further(item, paid_more, "its reward pays for more of it: the exploit may have moved there"))
    if paid_less:
        sentences.append(
            _further(item, paid_less, "its reward pays for less of it; read in the answers whether it is missed")
        )
    if unpaid:
        sentences.append(_further(item, unpaid, "its reward is not shown to pay for it"))
    if not item.elsewhere:
        sentences.append("On no style axis is it shown further from the reference than the baseline.")
    return sentences


def outcome(item: Measured, found: Remedies) -> str:
    """One sentence of what was measured, for the place of the expectation."""
    parts = []
    rate = item.reference.get(f"{found.judge}/win_rate")
    if rate is not None and rate.estimate is not None:
        parts.append(f"{found.judge} prefers it to the reference in {words(rate)} of comparisons")
        over = item.baseline.get(f"{found.judge}/win_rate")
        if over is not None:
            parts[-1] += f", to the baseline in {words(over)}"
    parts.append(f"length {words(item.reference['length'])} against the reference")
    before = found.arm(BASELINE).reference["kl"]
    parts.append(f"KL {words(item.reference['kl'])} (baseline {words(before)})")
    return f"Measured: {'; '.join(parts)}; verdict {item.arm.verdict}."


def gives_up(item: Measured, found: Remedies) -> str:
    """What the arm is shown to lose against the baseline; processor time and label accuracy as they are."""
    names = [name for name in item.baseline if name in ("kl", "truncated", "repetitive") or name.endswith("/gain")]
    lost = [f"{effect.title} {words(effect)}" for effect in item.worse(names)]
    before = found.arm(BASELINE).arm
    mine, theirs = (arm.card.get("accuracy_reward") or {"value": None} for arm in (item.arm, before))
    if mine["value"] is not None and theirs["value"] is not None and mine["value"] < theirs["value"]:
        both = f"{_accuracy(item.arm.card)} (baseline {_accuracy(before.card)})"
        lost.append(f"labels that the reward alone predicts {both}")
    if item.arm.cost is not None and before.cost is not None and item.arm.cost > before.cost:
        lost.append(f"processor time {_seconds(item.arm.cost)} (baseline {_seconds(before.cost)})")
    return f"Gives up, against the baseline: {'; '.join(lost)}." if lost else "It is not shown to give up anything."


def ready(found: Remedies) -> str:
    """Which arm is ready for the next retraining."""
    if found.chosen is None:
        return f"No arm is promoted by the gate, so none is ready. Rule: {RULE}"
    if found.chosen == BASELINE:
        return f"The baseline itself is promoted and comes first: nothing has to be changed. Rule: {RULE}"
    return f"Ready for the next retraining: {found.chosen}. {SAME_PROMPTS} Rule: {RULE}"


def to_dict(found: Remedies) -> dict[str, Any]:
    """As remedies.json has it."""
    return {
        "chosen": found.chosen,
        "rule": RULE,
        "judge": found.judge,
        "prompts": found.prompts,
        "reward_models": {model: list(users) for model, users in found.reward_models.items()},
        "front": list(found.front),
        "arms": [_arm(item, found) for item in found.arms],
        "notes": [NOT_COMPARABLE, ONE_BY_ONE, *([SAME_PROMPTS] if found.chosen not in (None, BASELINE) else [])],
        "inputs": {**found.inputs, "interval_alpha": found.gate.alpha},
    }


def measured_effects(item: Measured, found: Remedies) -> dict[str, Any]:
    """The field ``measured`` of a recommendation in diagnosis.json."""
    told = {**_arm(item, found), "both": found.arm(BOTH).arm.verdict}
    return {key: value for key, value in told.items() if key not in ("changes", "patch", "own_reward_model")}


def _arm(item: Measured, found: Remedies) -> dict[str, Any]:
    arm = item.arm
    return {
        "arm": arm.name,
        "verdict": arm.verdict,
        "headline": arm.stopped or arm.decision["headline"],
        "not_passed": [row["name"] for row in arm.decision.get("criteria", ()) if row["counted"] and not row["passed"]],
        "changes": [change["change"] for change in arm.changes],
        "patch": dict(arm.patch),
        "own_reward_model": arm.reward_model or None,
        "sentences": story(item, found) if arm.name != BASELINE else [],
        "tradeoffs": [change["tradeoff"] for change in arm.changes],
        "moved_further_on": list(item.elsewhere),
        "paid_for": list(item.paid),
        "against_reference": {name: effect.to_dict() for name, effect in item.reference.items()},
        "against_baseline": {name: effect.to_dict() for name, effect in item.baseline.items()},
        "label_accuracy": arm.card.get("accuracy_reward"),
        "processor_seconds": dict(arm.seconds),
    }


def _moved(found: Remedies, name: str) -> bool:
    """Whether any arm's answers differ from the reference's on this axis at all."""
    known = [item.reference[name].estimate for item in found.arms if item.reference]
    return any(one is not None and one.value != 0 for one in known)


def _own(what: str) -> Callable[[Measured], str]:
    return lambda item: words(item.reference.get(f"reward/{item.arm.reward_model}/{what}"))


def _more(item: Measured, axis: str) -> bool:
    """Whether the arm has more of the axis than the baseline (and the reference); else it has less."""
    return item.baseline[f"style/{axis}"].direction > 0


def _further(item: Measured, axes: list[str], so: str) -> str:
    told = []
    for axis in axes:
        words_of = [words(which[f"style/{axis}"]) for which in (item.baseline, item.reference)]
        told.append(
            f"{_side(item, axis)} ({words_of[0]} an answer against the baseline, {words_of[1]} against the reference)"
        )
    return f"It has {' and '.join(told)}; {so}."


def _side(item: Measured, axis: str) -> str:
    return f"{'more' if _more(item, axis) else 'less'} {axis}"


def _elsewhere(item: Measured) -> str:
    if not item.baseline:
        return NOTHING
    named = [_side(item, axis) + (" (paid)" if axis in item.paid else "") for axis in item.elsewhere]
    return ", ".join(named) or "on no axis"


def _accuracy(card: Mapping[str, Any]) -> str:
    share = card.get("accuracy_reward")
    if not share or share.get("value") is None:
        return NOTHING
    value, (low, high) = share["value"], share["interval"]
    return f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def _seconds(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f} s"
