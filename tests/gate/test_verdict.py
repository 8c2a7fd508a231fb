"""The gate on populations whose truth is known: which verdict, for which reason, and how often it errs."""

import json
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from kellet.config.judgement import Criterion, Gate
from kellet.errors import DataError
from kellet.evaluation.answers import answers_of
from kellet.evaluation.file import check_evaluation, read_evaluation
from kellet.gate.checks import comparisons_needed, prompts_needed
from kellet.gate.degeneration import _empty, duplicate, repetitive
from kellet.gate.verdict import decide
from kellet.stats.bootstrap import Estimate
from tests.helpers.evaluations import evaluation
from tests.helpers.project import ROOT

GATE = Gate(resamples=300)


def passed(decision):
    return {item.name: item.passed for item in decision.criteria}


def test_an_honest_gain_is_promoted():
    decision = decide(evaluation(gain=0.5), GATE)
    assert decision.verdict == "promote"
    assert decision.promote
    assert decision.headline.endswith(
        "every counted criterion is shown to hold; not judged: independent_judge, reward_trust"
    )
    card = {"lift": {"value": 0.05, "interval": [0.02, 0.12], "prompts": 200}}
    whole = decide(evaluation(gain=0.5, judged=256), GATE, card=card)
    assert whole.headline.endswith("(budget 8); every criterion is shown to hold")


def test_the_hacked_policy_is_blocked_without_any_judge():
    decision = decide(evaluation(gain=-0.2, longer=20, length_pay=0.06, kl=14), GATE)
    assert decision.verdict == "block"
    assert passed(decision)["reward_gain"] is True
    assert passed(decision)["length_inflation"] is False
    assert passed(decision)["kl_budget"] is False
    assert passed(decision)["controlled_gain"] is None  # not identified
    assert "extrapolation" in decision.criterion("controlled_gain").why
    # 20 tokens on 30 are 67%; the mean KL is 14
    assert decision.headline.startswith("reward rose 0.9")
    assert " while length rose 6" in decision.headline
    assert " and KL reached 14." in decision.headline
    assert "(budget 8)" in decision.headline


def test_a_gain_that_is_only_length_does_not_pass_at_equal_length():
    decision = decide(evaluation(512, gain=0, longer=3, length_pay=0.15), GATE)
    assert passed(decision)["reward_gain"] is True
    assert passed(decision)["controlled_gain"] is not True
    assert not decision.promote


def test_kl_drift_alone_blocks():
    decision = decide(evaluation(kl=9), GATE)
    assert [name for name, value in passed(decision).items() if value is False] == ["kl_budget"]
    assert decision.verdict == "block"


def test_a_kl_tail_alone_blocks():
    table = evaluation(kl=3)
    tail = (table["system"] == "candidate") & (table.index % 8 == 0)  # one response in eight at 30 nats
    decision = decide(table.assign(kl_nats=table["kl_nats"].mask(tail, 30.0)), GATE)
    checks = {check.name: check.passed for check in decision.criterion("kl_budget").checks}
    assert checks == {"mean_kl": True, "tail_kl": False}
    assert decision.verdict == "block"


def test_the_judge_can_block_by_itself_at_unchanged_length():
    decision = decide(evaluation(gain=0.5, judged=40, judge_gain=-3), GATE)
    assert decision.verdict == "block"
    assert passed(decision)["independent_judge"] is False
    assert "violated: independent_judge" in decision.headline


def test_an_optional_judge_may_be_absent_and_a_required_one_may_not():
    required = Gate(resamples=300, required=("reward_gain", "independent_judge"))
    assert decide(evaluation(), GATE).promote
    decision = decide(evaluation(), required)
    assert decision.verdict == "inconclusive"
    assert "missing" in decision.headline


def test_an_optional_judge_that_is_present_and_not_shown_counts():
    decision = decide(evaluation(judged=12, judge_gain=0), GATE)
    assert passed(decision)["independent_judge"] is None
    assert decision.verdict == "inconclusive"


def test_missing_kl_never_promotes_where_it_is_required():
    table = evaluation()
    assert decide(table.drop(columns="kl_nats"), GATE).verdict == "inconclusive"
    table.loc[0, "kl_nats"] = np.nan
    decision = decide(table, GATE)
    assert decision.verdict == "inconclusive"
    assert "missing in 1 of 512" in decision.criterion("kl_budget").why


def test_prompts_needed_by_hand():
    # 100 prompts, sd 10, mean 1: half-width 1.6449; a power of 0.8 takes (10·(1.6449 + 0.8416)/1)² = 618.3 prompts
    estimate = Estimate(1.0, 1.0 - 1.6449, 1.0 + 1.6449, 100)
    assert prompts_needed(estimate, 0.0, 0.05) == 619
    assert prompts_needed(Estimate(0.0, -1.0, 1.0, 100), 0.0, 0.05) is None


def test_comparisons_needed_by_hand():
    # (1.6449 + 0.8416)² = 6.1826; times 0.25/0.1² = 154.6, and 0.24/0.2² = 37.1
    assert comparisons_needed(0.1, 0.5, 0.05) == 155
    assert comparisons_needed(0.2, 0.6, 0.05) == 38
    assert "155 judged prompts" in decide(evaluation(40), GATE).criterion("independent_judge").why


def test_the_price_of_a_nat_by_hand():
    table = evaluation(40, kl=4)
    table["kl_nats"] = table["kl_nats"].mask(table["system"] == "candidate", 4.0)
    gain = table.groupby("system")["reward"].mean()
    decision = decide(table, GATE)
    check = decision.criterion("kl_price").deciding
    assert check.estimate.value == pytest.approx((gain["candidate"] - gain["reference"]) / 4)
    dear = decide(table, Gate(resamples=300, kl_price_floor=1.0))  # a gain of 0.5 for 4 nats is an eighth of this
    assert (passed(decision)["kl_price"], passed(dear)["kl_price"], dear.verdict) == (True, False, "block")


def test_no_kl_column_leaves_the_price_out():
    table = evaluation().drop(columns="kl_nats")
    assert not decide(table, GATE).criterion("kl_price").counted
    required = Gate(resamples=300, required=("reward_gain", "kl_price"))
    assert decide(table, required).verdict == "inconclusive"


@pytest.mark.parametrize(("rise", "expected"), [(0.0, True), (2.0, False)])
def test_a_gain_must_outlast_the_disagreement(rise, expected):
    table = evaluation(gain=0.8)
    decision = decide(table.assign(reward_std=0.4 + rise * (table["system"] == "candidate")), GATE)
    assert passed(decision)["reward_trust"] is expected
    assert decision.promote is expected


def test_the_cards_lift_counts_when_given():
    for low, expected in ((0.02, True), (-0.02, None)):
        card = {"lift": {"value": 0.05, "interval": [low, 0.12], "prompts": 200}}
        assert passed(decide(evaluation(), GATE, card=card))["reward_trust"] is expected
    assert not decide(evaluation(), GATE).criterion("reward_trust").counted


CARDS = [
    {},
    {"lift": None},
    {"lift": {"value": 0.1, "interval": [0], "prompts": 9}},
    {"lift": {"value": -0.5, "interval": [0.01, 0.1], "prompts": 9}},
]


@pytest.mark.parametrize("card", CARDS)
def test_a_card_without_a_lift_is_refused(card):
    with pytest.raises(DataError, match="the card's lift cannot be read"):
        decide(evaluation(12), GATE, card=card)


def test_a_judge_who_errs_is_corrected():
    table = evaluation(judged=256, judge_gain=0.0, seed=5)
    plain, corrected = (
        decide(table, Gate(resamples=300, judge_error=e)).judges["judge_human"]["win_rate"] for e in (0, 0.2)
    )
    assert corrected.value == pytest.approx(0.5 + (plain.value - 0.5) / 0.6)
    assert corrected.low == pytest.approx(0.5 + (plain.low - 0.5) / 0.6)


def test_few_prompts_say_how_many_are_needed():
    decision = decide(evaluation(30, gain=0.25, seed=3), GATE)
    check = decision.criterion("reward_gain").deciding
    assert decision.verdict == "inconclusive"
    assert f"{check.needed_prompts:,} prompts" in check.why
    assert "prompts would decide" in decision.headline


def test_nothing_is_shown_by_fewer_than_ten_prompts():
    decision = decide(evaluation(8, gain=9), GATE)
    assert decision.verdict == "inconclusive"
    assert passed(decision)["reward_gain"] is None


def test_one_answer_a_prompt_has_no_length_slope_and_passes_without():
    decision = decide(evaluation(samples=1), GATE)
    assert {check.name for check in decision.criterion("controlled_gain").checks} == {
        "matched_length_gain",
        "equal_length_win_rate",
    }
    assert decision.promote


def test_a_policy_equal_to_its_reference_is_not_promoted():
    table = evaluation()
    reference = table[table["system"] == "reference"]
    copy = reference.assign(system="candidate", kl_nats=0.0)
    assert not decide(check_evaluation(pd.concat([copy, reference])), GATE).promote


@pytest.mark.parametrize(
    ("champion", "verdict"), [(1.2, "block"), (0.5, "promote"), (0.2, "promote")], ids=["better", "equal", "worse"]
)
def test_a_candidate_shown_worse_than_the_champion_is_blocked(champion, verdict):
    decision = decide(evaluation(gain=0.5, champion_gain=champion, seed=1), GATE)
    assert decision.verdict == verdict
    assert decision.comparison_with_champion.shown_worse is (verdict == "block")


def test_being_the_champion_is_not_being_worse():
    table = evaluation(gain=0.5)
    twin = table[table["system"] == "candidate"].assign(system="champion")
    assert decide(pd.concat([table, twin]), GATE).promote


def test_gate_json_has_the_contract_and_no_nan(tmp_path):
    decision = decide(evaluation(30, judged=15, champion_gain=0.1), GATE, {"data": "abc"})
    decision.write(tmp_path / "gate.json")
    read = json.loads((tmp_path / "gate.json").read_text(), parse_constant=pytest.fail)
    assert set(read) >= {"promote", "verdict", "headline", "criteria", "inputs", "config"}
    for item in read["criteria"]:
        assert set(item) >= {"name", "value", "interval", "threshold", "passed", "why"}
    assert read["inputs"]["data"] == "abc"
    assert read["inputs"]["prompts"] == 30
    assert read["config"] == GATE.model_dump(mode="json")
    json.dumps(decision.to_dict(), allow_nan=False)


def test_order_of_rows_does_not_matter_and_the_seed_does():
    table = evaluation(40, judged=20)
    one = decide(table, GATE).to_dict()
    assert decide(table.sample(frac=1, random_state=1), GATE).to_dict() == one
    assert decide(table, Gate(resamples=300, seed=1)).to_dict()["criteria"] != one["criteria"]


@pytest.mark.parametrize(
    "population",
    [
        {"gain": 0.0, "length_pay": 0.0},
        {"gain": 0.6, "longer": 3.0, "length_pay": 0.0},  # 33/30: on the limit of 1.10
        {"gain": 0.6, "kl": 8.0},  # on the budget
    ],
    ids=["no gain", "length on the limit", "KL on the budget"],
)
def test_on_the_border_of_a_criterion_promotions_stay_near_alpha(population):
    gate = Gate(resamples=200)
    promoted = sum(decide(evaluation(100, seed=seed, **population), gate).promote for seed in range(60))
    assert promoted <= 8  # P(Binomial(60, 0.05) > 8) = 0.003


def test_half_a_standard_deviation_is_promoted_nearly_always():
    gate = Gate(resamples=200)
    decisions = [decide(evaluation(256, gain=0.5, seed=seed), gate).promote for seed in range(40)]
    assert sum(decisions) >= 36


def test_repetition_by_hand():
    texts = [
        "We sent it out today. We sent it out today.",  # one sentence of five words twice
        "Thank you. Thank you.",  # two words: no
        "the parcel is on its way, the parcel is on the road, the parcel is on hold",  # four words three times
        "the parcel is on its way, the parcel is on the road",  # twice
        "",
    ]
    assert repetitive(texts).tolist() == [True, False, True, False, False]


def test_repetition_and_emptiness_without_spaces_between_words():
    """Eight characters count as four words do between spaces."""
    texts = [
        "您的包裹今天寄出。您的包裹今天寄出。",  # a sentence of eight characters twice
        "非常感谢您。非常感谢您。",  # five characters: no
        "包裹已经在路上了吗，包裹已经在路上了吧，包裹已经在路上了呢",  # the same eight characters three times
        "包裹已经在路上了吗，包裹已经在路上了吧",  # twice
        "包裹已在路上，退款已在路上，发票已在路上",  # four characters three times
    ]
    assert repetitive(texts).tolist() == [True, False, True, False, False]
    assert _empty(["\u200b\u3164", " ", "", "👍🏽", "您"]).tolist() == [True, True, True, False, False]


def test_a_stock_answer_for_a_fifth_of_the_prompts_is_a_duplicate():
    table = evaluation(20, samples=1)
    mine = table["system"] == "candidate"
    stock = table["response"].where(~(mine & table["prompt_id"].isin([f"p{i:06d}" for i in range(5)])), "Hello.")
    few = table["response"].where(~(mine & table["prompt_id"].isin([f"p{i:06d}" for i in range(4)])), "Hello.")
    for responses, expected in ((stock, 5), (few, 0)):  # 5 of 20 is more than a fifth, 4 is not
        rows = check_evaluation(table.assign(response=responses))
        assert duplicate(answers_of(rows)["candidate"]).sum() == expected


def test_what_was_never_seen_needs_few_prompts():
    # 1.6449·√2/(n + 2) <= 0.05 from n = 44.5 on
    checks = {n: decide(evaluation(n), GATE).criterion("degeneration").deciding for n in (44, 45)}
    assert (checks[44].passed, checks[44].needed_prompts) == (None, 45)
    assert checks[45].passed is True


def test_truncation_above_the_reference_blocks():
    table = evaluation()
    cut = (table["system"] == "candidate") & (table.index % 5 == 0)
    decision = decide(table.assign(truncated=cut), GATE)
    assert decision.criterion("degeneration").deciding.name == "truncated"
    assert decision.verdict == "block"


def test_the_documentation_names_every_criterion_and_setting_and_its_example_reads(tmp_path):
    text = (ROOT / "docs/use/gate.md").read_text(encoding="utf-8")
    names = [*Gate.model_fields, *get_args(Criterion)]
    assert [name for name in names if f"`{name}`" not in text] == []
    example = text.split("```csv\n")[1].split("```")[0]
    (tmp_path / "example.csv").write_text(example, encoding="utf-8")
    assert decide(read_evaluation(tmp_path / "example.csv"), GATE).verdict == "inconclusive"  # two prompts
