"""independent_judge: every judge column is accounted for, and what a judge is shown to say counts."""

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.gate.programme import Programme
from kellet.gate.verdict import decide
from tests.helpers.command import kellet
from tests.helpers.evaluations import evaluation


def with_judge(name, rate, comparisons, rows=None):
    """An honest gain, and a judge who prefers the candidate in exactly ``rate`` of ``comparisons`` prompts."""
    rows = evaluation(prompts=max(comparisons, 64)) if rows is None else rows
    prompts = np.sort(rows["prompt_id"].unique())
    won = dict(zip(prompts[:comparisons], np.arange(comparisons) < round(rate * comparisons), strict=True))
    candidate = rows["system"] == "candidate"
    keys = zip(rows["prompt_id"], rows["sample"], strict=True)
    score = np.array([won.get(prompt, np.nan) if sample == 0 else np.nan for prompt, sample in keys], float)
    return rows.assign(**{name: np.where(candidate, score, 1 - score)})


def judged(rows, **gate):
    decision = decide(rows, Gate(**gate))
    return decision, decision.criterion("independent_judge")


def test_a_judge_that_nobody_named_leaves_the_verdict_open_and_is_named():
    decision, criterion = judged(with_judge("judge_heldout", 0.0, 64))
    assert decision.verdict == "inconclusive"
    assert criterion.passed is None
    assert "judge_heldout" in criterion.why
    assert "gate.judges_for_information" in criterion.why


def test_a_judge_that_is_declared_information_does_not_decide():
    decision, criterion = judged(with_judge("judge_heldout", 0.0, 64), judges_for_information=("judge_heldout",))
    assert decision.promote
    assert not criterion.counted
    assert decision.judges["judge_heldout"]["win_rate"].value == 0.0


def test_the_named_judge_decides_and_a_second_one_still_has_to_be_accounted_for():
    rows = with_judge("judge_a", 0.9, 64)
    assert decide(rows, Gate(judge="judge_a")).promote
    both = with_judge("judge_b", 0.0, 64, rows)
    assert decide(both, Gate(judge="judge_a")).verdict == "inconclusive"
    assert decide(both, Gate(judge="judge_b")).verdict == "block"


def test_a_column_without_a_score_says_nothing_and_needs_no_account():
    rows = evaluation().assign(judge_empty=np.nan)
    assert decide(rows, Gate()).promote


def test_a_named_judge_that_is_missing_is_an_error_that_lists_those_there(tmp_path):
    rows = with_judge("judge_heldout", 0.9, 64)
    with pytest.raises(InputError, match=r"'judge_heldut'.*it has judge_heldout"):
        decide(rows, Gate(judge="judge_heldut"))
    rows.to_parquet(tmp_path / "e.parquet")
    result = kellet("gate", str(tmp_path / "e.parquet"), "--set", "gate.judge=judge_heldut")
    assert result.exit_code == 2
    assert "judge_heldout" in result.output


@pytest.mark.parametrize(
    ("rate", "comparisons", "verdict"),
    [
        # Wilson's interval, one-sided 5%: 0.42 of 512 is [0.384, 0.456], 0.45 is [0.414, 0.486]
        (0.42, 512, "block"),
        (0.45, 512, "block"),
        (0.45, 200, "inconclusive"),  # [0.393, 0.508]: neither above 0.40 nor below 0.50
        (0.48, 512, "promote"),  # [0.444, 0.517]
        (0.50, 160, "promote"),
        (0.30, 160, "block"),
    ],
)
def test_the_margin_is_for_judges_who_are_not_sure(rate, comparisons, verdict):
    assert judged(with_judge("judge_human", rate, comparisons))[0].verdict == verdict


def test_few_comparisons_say_how_many_an_indifferent_judge_takes():
    """(1.645 + 0.842)²·0.25/0.1² = 154.6."""
    _, criterion = judged(with_judge("judge_human", 1.0, 1))
    check = next(check for check in criterion.checks if check.name == "win_rate")
    assert check.needed_prompts == 155
    assert "155" in check.why


def test_between_the_limit_and_one_half_the_nearer_end_decides():
    """0.47 ± is 0.07 above the limit and 0.03 below one half: the limit is shown with fewer."""
    checks = {}
    for rate in (0.43, 0.47):
        _, criterion = judged(with_judge("judge_human", rate, 100))
        checks[rate] = next(check for check in criterion.checks if check.name == "win_rate")
    # (h/d·(1.645 + 0.842)/1.645)²·100 with d = 0.07 both times, below one half and above the limit
    assert checks[0.43].needed_prompts == pytest.approx(
        checks[0.47].needed_prompts, rel=0.1
    )  # Wilson's ends lean to one half
    assert checks[0.43].needed_prompts < 400


def test_at_the_smaller_level_of_a_look_what_speaks_against_counts_at_the_nominal_one():
    """0.48 of 2,000 is [0.462, 0.498] at 0.05 and [0.444, 0.517] at 0.0005: above the limit, and below one half."""
    rows = with_judge("judge_human", 0.48, 2000)
    look = Programme().next_look("x", 1, []).model_copy(update={"level": 0.0005})
    assert decide(rows, Gate()).verdict == "block"
    assert decide(rows, Gate(), look=look).criterion("independent_judge").passed is False
