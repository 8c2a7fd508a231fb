"""The gain at equal style and length: exact cases, least squares with dummies, and what is warned of."""

import numpy as np
import pandas as pd
import pytest

from kellet.config.judgement import Gate
from kellet.evaluation.answers import answers_of
from kellet.evaluation.file import check_evaluation
from kellet.gate.style_shift import style_shift
from kellet.gate.verdict import decide
from kellet.stats.style import Style, style
from tests.helpers.evaluations import evaluation

GATE = Gate(resamples=300)
COURTESY = (" Thank you for writing.", " We are sorry.", " Have a nice day.")


def courteous(prompts=40, extra=1, pay=2.0, noise=0.0, gain=0.0, seed=0):
    """Answers of 0 to 2 courtesy sentences at drawn lengths; the candidate has ``extra`` more, each paid ``pay``."""
    rng = np.random.default_rng(seed)
    table = evaluation(prompts, samples=3, gain=0, seed=seed)
    mine = (table["system"] == "candidate").to_numpy()
    polite = rng.integers(0, 3, len(table)) + extra * mine
    table["response"] = [f"It is order {i}.{''.join(COURTESY[:n])}" for i, n in enumerate(polite)]
    base = table["prompt_id"].str[1:].astype(float) % 7 + 0.1 * table["length_tokens"]
    table["reward"] = base + pay * polite + gain * mine + noise * rng.normal(size=len(table))
    return table


def split(table):
    answers = answers_of(check_evaluation(table))
    return answers["reference"], answers["candidate"]


def axis(shift, name):
    return {item.axis: item for item in shift.axes}[name]


def test_a_gain_that_is_courtesy_and_length_is_explained_wholly():
    table = courteous()
    shift = style_shift(*split(table), GATE)
    moved = axis(shift, "courtesy")
    counts = np.array([style(p, r).courtesy for p, r in zip(table["prompt"], table["response"], strict=True)])
    mine = (table["system"] == "candidate").to_numpy()
    assert moved.shift.value == pytest.approx(counts[mine].mean() - counts[~mine].mean())
    assert moved.price.value == pytest.approx(2.0)
    assert moved.explained.value == pytest.approx(2.0 * moved.shift.value)
    assert moved.paid
    assert shift.remaining.value == pytest.approx(0.0, abs=1e-9)


def test_prices_agree_with_least_squares_on_dummies():
    table = courteous(noise=1.0, extra=0)
    table["response"] = table["response"].where(table.index % 3 > 0, table["response"] + " Perhaps it is late.")
    shift = style_shift(*split(table), GATE)
    counts = [style(p, r) for p, r in zip(table["prompt"], table["response"], strict=True)]
    x = pd.DataFrame(counts, columns=Style._fields)[["courtesy", "hedging"]]
    x["length"] = table["length_tokens"]
    dummies = pd.get_dummies(table["prompt_id"] + table["system"]).astype(float)
    fitted = np.linalg.lstsq(np.column_stack([x, dummies]), table["reward"], rcond=None)[0]
    prices = [axis(shift, name).price.value for name in ("courtesy", "hedging")]
    assert prices == pytest.approx(fitted[:2].tolist(), rel=1e-6)


def test_the_part_that_is_no_style_is_left():
    shift = style_shift(*split(courteous(200, gain=0.7, noise=0.5)), GATE)
    assert shift.remaining.low < 0.7 < shift.remaining.high
    assert shift.remaining.low > 0.4


def test_bounds_of_what_is_left_miss_about_alpha_of_the_time():
    missed = np.zeros(2)
    for seed in range(120):
        left = style_shift(*split(courteous(48, noise=1.0, gain=0.3, seed=seed)), GATE).remaining
        missed += [left.low > 0.3, left.high < 0.3]
    assert (missed <= 14).all()  # P(Binomial(120, 0.05) > 14) = 0.001
    assert missed.sum() >= 4  # P(Binomial(120, 0.10) < 4) = 0.003


@pytest.mark.parametrize(("setting", "verdict"), [("warn", "inconclusive"), ("block", "block")])
def test_a_gain_that_is_less_than_its_style_warns_or_blocks(setting, verdict):
    table = courteous(200, extra=1, pay=2.0, noise=0.5, gain=-0.5)
    decision = decide(table, Gate(resamples=300, style_shift=setting))
    criterion = decision.criterion("style_shift")
    assert decision.verdict == verdict
    assert criterion.passed is (False if setting == "block" else None)
    assert "courtesy" in criterion.why
    assert ("A person should look" in criterion.why) is (setting == "warn")


def test_a_shift_on_an_axis_without_a_price_cannot_be_told():
    table = evaluation(60, samples=2)
    mine = table["system"] == "candidate"
    table["response"] = table["response"].where(
        ~mine, table["response"] + "\n- a\n- b"
    )  # two list items in every answer
    decision = decide(table, GATE)
    assert decision.criterion("style_shift").passed is None
    assert "structure moved" in decision.criterion("style_shift").why
    assert decision.verdict == "inconclusive"


def test_a_rare_axis_without_a_price_is_matched():
    table = courteous(60, gain=0.7)
    mine = table["system"] == "candidate"
    rare = mine & table["prompt_id"].isin([f"p{i:06d}" for i in range(8)])  # eight prompts, all answers to each
    table["response"] = table["response"].where(~rare, table["response"] + "\n- a\n- b")
    table["reward"] += 50.0 * rare
    shift = style_shift(*split(table), GATE)
    assert axis(shift, "structure").price is None
    assert shift.matched == ("structure",)
    assert shift.remaining.clusters == 52
    assert shift.remaining.value == pytest.approx(0.7)  # what the eight prompts earned is not in it
    assert "where answers are alike in structure" in decide(table, GATE).criterion("style_shift").why


def test_one_answer_a_prompt_leaves_it_out():
    decision = decide(evaluation(60, samples=1), GATE)
    assert not decision.criterion("style_shift").counted
    required = Gate(resamples=300, required=("reward_gain", "style_shift"))
    assert decide(evaluation(60, samples=1), required).criterion("style_shift").counted


def test_many_answers_are_read_of_evenly_spaced_prompts(monkeypatch):
    monkeypatch.setattr("kellet.gate.style_shift.MAX_ANSWERS", 90)
    shift = style_shift(*split(courteous(90)), GATE)  # 270 answers of each system
    assert axis(shift, "courtesy").shift.clusters == 30
    assert axis(shift, "courtesy").price.value == pytest.approx(2.0)
