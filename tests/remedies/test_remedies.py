"""Arms beside a baseline: what is compared with what, which arm is chosen, whether an exploit moved elsewhere."""

import json
import re

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation
from kellet.gate.verdict import decide
from kellet.remedies.measure import BASELINE, BOTH, FIRST, SECOND, Arm, arms_of, choose, compare_arms
from kellet.remedies.text import as_markdown, as_text, measured_effects, ready, story, table, to_dict
from kellet.report import remedies_page
from tests.helpers.evaluations import evaluation
from tests.helpers.page import Page, only_its_own_style

GATE = Gate(resamples=200, judge="judge_human")
NASTY = "<script>alert(1)</script>"


def change(**patch):
    return {"change": f"Change {patch} {NASTY}", "patch": patch, "expected_effect": "more", "tradeoff": "less"}


def arm(name, *, reward_model, changes=(), verdict=None, text=None, more=(), **world):
    """An arm with the same noise as every other; ``world`` are arguments of tests/helpers/evaluations.py."""
    table = evaluation(40, judged=40, length_pay=0.0, **world)
    table["judge_gold"] = table["judge_human"]
    if text:
        table.loc[table["system"] == "candidate", "response"] = text
    rows = check_evaluation(table)
    decision = decide(rows, GATE).to_dict() | ({"verdict": verdict} if verdict else {})
    reward = rows["reward"].to_numpy()
    return Arm(
        name,
        changes,
        {key: value for item in changes for key, value in item["patch"].items()},
        rows=rows,
        decision=decision,
        card={"accuracy_reward": {"value": 0.7 if more else 0.8, "interval": [0.6, 0.9]}},
        reward_model=reward_model,
        rewards={BASELINE: reward, FIRST: 10 * reward},
        seconds={"policy": 20.0 if more else 10.0},
    )


def paid_for_courtesy(made):
    """The same arm with a reward model that is shown to pay for the direction in which courtesy moved."""
    axes = [{**axis, "paid": axis["axis"] == "courtesy"} for axis in made.decision["style"]["axes"]]
    return Arm(**{**vars(made), "decision": {**made.decision, "style": {"axes": axes}}})


@pytest.fixture(scope="module")
def arms():
    first, second = change(**{"a.b": 1}), change(**{"c.d": 2.5})
    return [
        arm(BASELINE, reward_model=BASELINE, gain=0.0, longer=30.0, kl=20.0),
        arm(FIRST, reward_model=FIRST, changes=[first], gain=0.5, kl=20.0, text="Thank you. I hope you like it."),
        arm(SECOND, reward_model=BASELINE, changes=[second], gain=-0.25, kl=2.0, more=["slow"]),
        Arm(BOTH, [first, second], {"a.b": 1, "c.d": 2.5}, stopped="no lift over 'always the longer one'"),
    ]


@pytest.fixture(scope="module")
def remedies(arms):
    return compare_arms(arms, GATE, {"data_md5": "0123abcd"})


def test_both_carries_out_both_and_the_first_has_the_last_word():
    plans = arms_of([change(x=1, y=1), change(y=2, z=2)])
    assert [(name, patch) for name, _, patch in plans] == [
        (FIRST, {"x": 1, "y": 1}),
        (SECOND, {"y": 2, "z": 2}),
        (BOTH, {"x": 1, "y": 1, "z": 2}),
    ]


def test_a_recommendation_without_a_patch_has_no_arm_and_is_named(arms):
    asked = {**change(), "change": "Bring answers"}
    assert [(name, patch) for name, _, patch in arms_of([asked, change(y=2)])] == [(SECOND, {"y": 2})]
    assert [(name, patch) for name, _, patch in arms_of([change(x=1), asked])] == [(FIRST, {"x": 1})]
    assert arms_of([asked, asked]) == []
    one = compare_arms([arms[0], arms[2]], GATE, {})
    assert "Not measured: the first recommendation" in ready(one)
    assert "second recommendation" not in ready(one)
    assert measured_effects(one.arm(SECOND), one)["both"] is None


def test_an_arm_is_paired_with_the_baseline_prompt_by_prompt(remedies):
    # the noise of both arms is the same, so their difference is the planted one, without an interval
    over = remedies.arm(FIRST).baseline["reward/baseline/gain"].estimate
    assert (over.value, over.low, over.high) == pytest.approx((0.5, 0.5, 0.5))
    assert remedies.arm(FIRST).baseline["reward/first/gain"].estimate.value == pytest.approx(5.0)
    assert remedies.arm(SECOND).baseline["reward/baseline/gain"].estimate.value == pytest.approx(-0.25)
    assert remedies.arm(FIRST).baseline["judge_human/win_rate"].estimate.value == 1
    assert remedies.arm(SECOND).baseline["kl"].improved is True
    assert remedies.arm(FIRST).baseline["length"].estimate.value == pytest.approx(0.5, abs=0.05)  # 30 of 60 tokens


def test_only_shared_prompts_are_compared(arms):
    more = arm(FIRST, reward_model=FIRST, gain=0.5)
    assert compare_arms([arms[0], more], GATE, {}).inputs["reference_answers_alike"]
    few = more.rows["prompt_id"] < "p000025"
    less = Arm(**{**vars(more), "rows": more.rows[few], "rewards": {k: v[few] for k, v in more.rewards.items()}})
    shared = compare_arms([arms[0], less], GATE, {})
    assert shared.prompts == 25
    assert shared.arm(BASELINE).reference["length"].estimate.clusters == 25
    strange = Arm(**{**vars(more), "rows": more.rows.assign(prompt_id="other " + more.rows["prompt_id"])})
    with pytest.raises(DataError, match="different prompts"):
        compare_arms([arms[0], strange], GATE, {})


def test_an_exploit_that_moves_to_another_axis_is_seen(remedies, arms):
    # the candidate of 'first' thanks and hopes in every answer, the baseline's in none
    assert "courtesy" in remedies.arm(FIRST).further_axes
    assert remedies.arm(FIRST).paid_axes == ()
    paid = compare_arms([arms[0], paid_for_courtesy(arms[1])], GATE, {})
    assert paid.arm(FIRST).paid_axes == ("courtesy",)
    assert "the exploit may have moved there" in story(paid.arm(FIRST), paid)[-1]
    assert dict(table(paid))["moved further from the reference"][1] == "more courtesy (paid)"
    assert remedies.arm(SECOND).further_axes == ()


def test_less_of_a_style_is_named_so_and_is_no_exploit():
    # the reference thanks in every answer, the baseline's policy too, that of the arm in none
    def polite(name, *systems):
        made = arm(name, reward_model=BASELINE, gain=0.5)
        made.rows.loc[made.rows["system"].isin(systems), "response"] = "It is in box 1. Thank you."
        made.rows.loc[~made.rows["system"].isin(systems), "response"] = "It is in box 1."
        return made

    less = compare_arms(
        [polite(BASELINE, "reference", "candidate"), paid_for_courtesy(polite(FIRST, "reference"))], GATE, {}
    )
    first = less.arm(FIRST)
    assert first.paid_axes == ("courtesy",)
    assert not any("exploit" in sentence for sentence in story(first, less))
    assert story(first, less)[-1].startswith(
        "It has less courtesy (-1.00 [-1.00, -1.00] an answer against the baseline"
    )
    assert dict(table(less))["moved further from the reference"][1] == "less courtesy (paid)"


def test_what_is_given_up_is_said_with_figures(remedies):
    text = as_text(remedies)
    assert "gain by the reward model of baseline -0.25 [-0.25, -0.25]" in text
    assert "labels that the reward alone predicts 70.0% [60.0, 90.0] (baseline 80.0% [60.0, 90.0])" in text
    assert "processor time 20 s (baseline 10 s)" in text
    assert "Stopped: no lift" in text
    first = next(item for item in to_dict(remedies)["arms"] if item["arm"] == FIRST)
    assert not any("reward model" in sentence for sentence in first["sentences"])  # it lost nothing there


def test_rewards_by_an_arms_own_reward_model_are_in_no_comparison(remedies):
    rows = dict(table(remedies))
    own = rows["own reward, gain over the reference (own units)"]
    assert own[1] == rows["gain over the reference by the reward model of first"][1]
    assert own[2] == rows["gain over the reference by the reward model of baseline and second"][2]
    assert not any("own" in name for name in remedies.arm(FIRST).baseline)
    assert remedies.reward_models == {BASELINE: (BASELINE, SECOND), FIRST: (FIRST,)}


def test_the_front_is_what_none_beats_both_ways(remedies):
    # first: most wins; second: less KL. The baseline has first's KL and fewer wins.
    assert set(remedies.front) == {FIRST, SECOND}


@pytest.mark.parametrize(
    ("verdicts", "gains", "chosen"),
    [
        (("block", "inconclusive", "block"), (0.0, 2.0, 1.0), None),
        (("block", "promote", "promote"), (0.0, 0.2, 1.0), SECOND),
        (("block", "promote", "inconclusive"), (0.0, 0.2, 1.0), FIRST),
        (("promote", "promote", "block"), (0.5, 0.2, 1.0), BASELINE),
    ],
)
def test_the_rule_of_choice(verdicts, gains, chosen):
    made = [
        arm(name, reward_model=BASELINE, verdict=verdict, gain=gain)
        for name, verdict, gain in zip((BASELINE, FIRST, SECOND), verdicts, gains, strict=True)
    ]
    assert choose(made, GATE) == chosen


def test_the_truth_of_a_simulated_world_chooses_nothing():
    made = [arm(name, reward_model=BASELINE, verdict="promote", gain=g) for name, g in ((FIRST, 0.2), (SECOND, 1.0))]
    assert choose(made, GATE) == SECOND
    for one, gold in zip(made, (5.0, -5.0), strict=True):
        one.rows["judge_gold"] = np.where(one.rows["system"] == "candidate", gold, 0.0)
    assert choose(made, GATE) == SECOND


def test_without_a_judge_the_arm_with_fewer_changes_comes_first():
    blind = Gate(resamples=200, judge="judge_nobody")
    two = arm(BOTH, reward_model=BASELINE, verdict="promote", changes=[change(x=1), change(y=1)], gain=2.0)
    one = arm(SECOND, reward_model=BASELINE, verdict="promote", changes=[change(y=1)], gain=0.1)
    assert choose([two, one], blind) == SECOND


def test_files_are_plain_json_and_say_that_none_is_ready(remedies):
    content = json.loads(json.dumps(to_dict(remedies), allow_nan=False))
    assert content["chosen"] is None
    assert "none is ready" in ready(remedies)
    assert {"verdict", "against_reference", "against_baseline", "sentences"} <= set(
        measured_effects(remedies.arm(FIRST), remedies)
    )
    assert as_markdown(remedies).count("\n| verdict of the gate | ") == 1


def test_the_page_is_whole_escaped_and_asks_for_nothing(remedies, tmp_path):
    steps = [{"iteration": n, "objective/kl": float(n), "objective/reward": None} for n in range(1, 4)]
    remedies_page.write(tmp_path / "remedies.html", NASTY, remedies, {BASELINE: steps, FIRST: steps})
    text = (tmp_path / "remedies.html").read_text()
    parsed = Page(text)
    assert "script" not in parsed.tags
    assert sum(NASTY in word for word in parsed.words) >= 3
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "src"))
    ids = {value for name, value in parsed.attributes if name == "id"}
    assert {value[1:] for name, value in parsed.attributes if name == "href"} <= ids
    assert only_its_own_style(text, parsed)
    assert text.count('class="bubble') == 3 + 1  # three arms with answers, and the reference


def test_the_arms_of_a_measure_share_one_axis_and_only_a_better_side_is_shaded(remedies, tmp_path):
    remedies_page.write(tmp_path / "remedies.html", "naive", remedies, {})
    text = (tmp_path / "remedies.html").read_text()
    drawn = re.findall(r"<svg[^>]*><title>([^<]*) against the baseline: [^<]*</title>(.*?)</svg>", text)
    for measure_, shaded in (("gain by judge_gold", True), ("courtesy, counts an answer", False)):
        drawings = [drawing for title, drawing in drawn if title.startswith(f"{measure_}, ")]
        assert len(drawings) == 2  # first and second
        assert len({re.search(r'class="threshold" x1="([^"]*)"', one)[1] for one in drawings}) == 1
        assert {'class="good"' in one for one in drawings} == {shaded}
