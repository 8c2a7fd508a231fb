"""Many looks: LORD++ against another implementation, by hand and by its law, and what a reader is told."""

import numpy as np
import pytest
from online_fdr.core.utils.sequence import DefaultSaffronGammaSequence
from online_fdr.p_values.investing.lord.plus_plus import LordPlusPlus

from kellet.config.judgement import Gate
from kellet.gate.programme import PastLook, Programme, as_dict, lord_level, spending


def played(verdicts, programme=None, candidate="c{}", prompts=("a",)):
    """A programme after looks with these verdicts."""
    programme = programme or Programme()
    for verdict in verdicts:
        look = programme.next_look(candidate.format(programme.next_number), 10, prompts)
        past = PastLook(look=look, verdict=verdict, evidence=f"e{look.number}", rows=f"r{look.number}")
        programme = programme.with_look(past, prompts)
    return programme


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("rate", "w0"), [(0.1, 0.05), (0.05, 0.01)])
def test_levels_are_those_of_the_package_online_fdr(seed, rate, w0):
    rng = np.random.default_rng(seed)
    theirs = LordPlusPlus(rate, w0)
    theirs.seq = DefaultSaffronGammaSequence(gamma_exp=1.6, c=0.4374901658)
    promoted, differences = [], []
    for t in range(1, 201):
        ours = lord_level(t, promoted, rate, w0)
        p = float(rng.uniform(0, 1) ** (8 if rng.uniform() < 0.3 else 1))
        if theirs.test_one(p):
            promoted.append(t)
        differences.append(ours / theirs.last_test_level - 1)
    assert len(promoted) > 5
    assert np.abs(differences).max() < 1e-8


def test_the_first_levels_by_hand():
    """γ_1 = 1/ζ(1.6) = 0.43749, γ_2 = γ_1·2^-1.6 = 0.144318, γ_3 = 0.0754355; α = 0.1, w0 = 0.05."""
    assert [spending(t) for t in (1, 2, 3)] == pytest.approx([0.43749, 0.144318, 0.0754355], rel=1e-5)
    assert lord_level(1, (), 0.1, 0.05) == pytest.approx(0.0218745, rel=1e-5)
    assert lord_level(2, (), 0.1, 0.05) == pytest.approx(0.0072159, rel=1e-5)
    assert lord_level(2, (1,), 0.1, 0.05) == pytest.approx(0.0072159 + 0.0218745, rel=1e-5)
    assert lord_level(3, (1, 2), 0.1, 0.05) == pytest.approx(0.00377178 + 0.0072159 + 0.043749, rel=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_levels_before_the_first_promotion_sum_to_at_most_the_wealth_at_the_start(rate):
    levels = [lord_level(t, (), rate, rate / 2) for t in range(1, 100_001)]
    assert 0.99 * rate / 2 < sum(levels) < rate / 2
    assert 0.93 < sum(levels[:52]) / (rate / 2) < 0.94  # a year of weekly looks is given most of it


def test_a_promotion_earns_new_wealth_and_a_programme_knows_its_looks():
    programme = played(["block", "promote", "inconclusive"])
    assert programme.promoted == (2,)
    assert [past.look.level for past in programme.looks] == [lord_level(t, (2,)[: t > 2], 0.1, 0.05) for t in (1, 2, 3)]
    look = programme.next_look("c3", 10, ["a"])
    assert (look.number, look.promoted_before, look.judged_before) == (4, 1, 1)
    assert look.spent == pytest.approx(sum(past.look.level for past in programme.looks) + look.level)
    assert [programme.promoted_since(number) for number in (1, 2, 3)] == [True, True, False]


def test_a_candidate_that_is_promoted_again_earns_nothing():
    """Or one good candidate, judged again and again, would pay for a bad one."""
    programme = played(["promote"] * 3, candidate="good")
    assert programme.promoted == (1,)
    assert programme.next_look("other", 1, []).level == lord_level(4, (1,), 0.1, 0.05)
    assert programme.promoted_since(3)


def test_a_lost_look_keeps_its_number():
    programme = played(["block", "promote", "block"])
    left = programme.model_copy(update={"looks": programme.looks[2:]})
    assert left.next_number == 4
    assert left.next_look("new", 1, []).level == lord_level(4, (), 0.1, 0.05)


def test_reuse_of_prompts_is_counted_by_look():
    programme = played(["block"] * 2, prompts=("a", "b", "b"))
    programme = played(["block"], programme, prompts=("b", "c"))
    assert programme.prompts == {"a": 2, "b": 3, "c": 1}
    look = programme.next_look("new", 10, ["b", "c", "d", "d"])
    assert (look.prompts, look.decided_before, look.most_often) == (3, 2, 3)


def test_what_a_reader_is_told():
    programme = played(["block"] * 5, candidate="weekly", prompts=[f"p{i}" for i in range(200)])
    look = programme.next_look("weekly", 512, [f"p{i}" for i in range(256)])
    told = as_dict(look, Gate())
    assert told["sentence"] == (
        "Look 6 of this programme, level 0.0012 (0.038 spent), candidate weekly judged for the 6th time on "
        "512 answers, 200 of 256 prompts have decided before (at most 5 times)."
    )
    assert (told["active"], told["look"], told["alpha"], told["gate_alpha"]) == (True, 6, look.level, 0.05)
    assert told["prompts"] == {"asked": 256, "decided_before": 200, "most_often": 5}
    first = Programme().next_look("new", 1, ["p"])
    assert "candidate new judged on 1 answers, 0 of 1 prompts have decided before." in first.sentence


@pytest.mark.parametrize(("count", "words"), [(1, "2nd"), (2, "3rd"), (10, "11th"), (11, "12th"), (20, "21st")])
def test_ordinals(count, words):
    assert f"for the {words} time" in played(["block"] * count, candidate="x").next_look("x", 1, []).sentence


def test_the_level_never_exceeds_that_of_the_gate():
    look = Programme(rate=0.4).next_look("x", 1, [])
    assert look.level > 0.05
    assert look.alpha(Gate()) == 0.05
    assert look.alpha(Gate(alpha=0.4)) == look.level


@pytest.mark.parametrize(
    ("gate", "why"), [(Gate(), "no programme was given"), (Gate(programme=False), "programme is f")]
)
def test_a_verdict_without_a_programme_says_that_it_stands_alone(gate, why):
    told = as_dict(None, gate)
    assert told["active"] is False
    assert why in told["why"]
    assert "stands alone" in told["sentence"]
    assert "repeated looks are not accounted for" in told["sentence"]
