"""The order of a log's rows: sorted by step, resumed runs, several rows of a step, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kellet.diagnosis.log_order import in_order
from kellet.errors import DataError


def rows(*steps, kl=None, **more):
    """Rows with a KL that says their place, so that each can be told from the others."""
    return [{"step": step, "kl": float(place) if kl is None else kl, **more} for place, step in enumerate(steps)]


def kls(ordered):
    return [row["kl"] for row in ordered.rows]


def test_rows_are_sorted_by_step_and_that_is_told():
    ordered = in_order(rows(3, 1, 2))
    assert kls(ordered) == [1.0, 2.0, 0.0]
    assert ordered.step == "step"
    assert ordered.notes == ("the rows were not in the order of 'step' and were sorted by it",)
    assert in_order(rows(1, 2, 3)).notes == ()


def test_of_a_resumed_run_the_later_rows_count():
    ordered = in_order(rows(*range(1, 21), *range(16, 31)))
    assert [row["step"] for row in ordered.rows] == list(range(1, 31))
    assert kls(ordered) == [float(place) for place in (*range(15), *range(20, 35))]
    (note,) = ordered.notes
    assert "16 to 20" in note
    assert "5 rows" in note


def test_what_the_resumed_run_did_not_reach_again_is_of_the_abandoned_part():
    """Crashed at 20, resumed at 16, crashed again at 18: what there was of 19 and 20 is no part of this policy."""
    assert [row["step"] for row in in_order(rows(*range(1, 21), 16, 17, 18)).rows] == list(range(1, 19))


def test_a_run_that_was_resumed_twice():
    ordered = in_order(rows(*range(1, 11), *range(8, 16), *range(12, 21)))
    assert kls(ordered) == [float(place) for place in (*range(7), *range(10, 14), *range(18, 27))]


def test_two_runs_in_one_log_are_refused():
    with pytest.raises(DataError, match=r"'step' begins again at 1 in row 11 of 20.*two runs"):
        in_order(rows(*range(1, 11), *range(1, 11)))


def test_a_log_that_is_there_twice_value_for_value_is_one():
    ordered = in_order([*rows(1, 2, 3), *rows(1, 2, 3)])
    assert kls(ordered) == [0.0, 1.0, 2.0]
    assert "3 rows repeat another" in ordered.notes[0]


def test_several_rows_of_each_step_with_other_values_are_refused():
    with pytest.raises(DataError, match="of which run or process"):
        in_order(rows(1, 1, 2, 2, 3, 3, 4, 4, 5, 5))
    logged = rows(*range(1, 21), *range(16, 31))
    shuffled = [logged[place * 11 % 35] for place in range(35)]
    with pytest.raises(DataError, match="of which run or process"):
        in_order(shuffled)


def test_rows_of_a_step_that_do_not_contradict_each_other_are_one():
    ordered = in_order([{"step": 1, "kl": 0.5}, {"step": 1, "reward": 2.0, "kl": None}, {"step": 2, "kl": 0.25}])
    assert ordered.rows == [{"step": 1, "kl": 0.5, "reward": 2.0}, {"step": 2, "kl": 0.25}]
    assert ordered.notes == ()


def test_the_trainers_step_goes_before_a_loggers():
    """W&B's _step goes on when a run is resumed; the trainer's is the one that repeats."""
    logged = [
        {"_step": place, "global_step": step, "kl": 1.0 * place} for place, step in enumerate((1, 2, 3, 4, 3, 4, 5))
    ]
    ordered = in_order(logged)
    assert ordered.step == "global_step"
    assert kls(ordered) == [0.0, 1.0, 4.0, 5.0, 6.0]


def test_a_step_that_stands_still_orders_nothing():
    ordered = in_order([{"step": 0, "_step": 2, "kl": 1.0}, {"step": 0, "_step": 1, "kl": 2.0}])
    assert (ordered.step, kls(ordered)) == ("_step", [2.0, 1.0])


def test_rows_without_the_step_are_left_out_and_told():
    ordered = in_order([*rows(*range(1, 11)), {"kl": 5.0}])
    assert len(ordered.rows) == 10
    assert "1 of 11 rows have no 'step'" in ordered.notes[0]


def test_a_step_as_a_fraction_of_the_whole():
    """ms-swift, such as modelscope/ms-swift issue 5571: 'global_step/max_steps': '5/3766'."""
    logged = [{"global_step/max_steps": f"{step}/3766", "kl": 1.0 * step} for step in (10, 5)]
    assert kls(in_order(logged)) == [5.0, 10.0]


def test_without_a_step_the_epoch_orders_and_a_resumed_run_is_seen():
    epochs = (0.1, 0.1, 0.2, 0.3, 0.4, 0.3, 0.4, 0.5)
    ordered = in_order([{"epoch": epoch, "kl": 1.0 * place} for place, epoch in enumerate(epochs)])
    assert kls(ordered) == [0.0, 1.0, 2.0, 5.0, 6.0, 7.0]
    assert "no step" in ordered.notes[0]
    assert "resumed" in ordered.notes[1]


def test_without_anything_that_orders_the_file_does_and_that_is_told():
    ordered = in_order([{"kl": 2.0}, {"kl": 1.0}])
    assert (ordered.step, kls(ordered)) == ("", [2.0, 1.0])
    assert "order of the file" in ordered.notes[0]


@given(st.permutations(list(range(1, 13))))
def test_any_order_of_the_rows_gives_the_same(steps):
    assert in_order([{"step": step, "kl": step / 4} for step in steps]).rows == [
        {"step": step, "kl": step / 4} for step in range(1, 13)
    ]


@given(st.integers(2, 30), st.data())
def test_any_point_of_resumption_gives_every_step_once(last, data):
    again = data.draw(st.integers(2, last))
    ordered = in_order(rows(*range(1, last + 1), *range(again, last + 4)))
    assert kls(ordered) == [float(place) for place in (*range(again - 1), *range(last, 2 * last + 4 - again))]


def test_rows_that_follow_their_step_at_once_with_other_values_are_of_something_else():
    """An evaluation under the names of training, at the step where it was made: it must not replace training's rows."""
    rows = [{"step": n, "reward": 0.1 * n} for n in range(1, 31)]
    with_evaluations = [
        row for n in range(30) for row in (rows[n], *([{**rows[n], "reward": 9.0}] if n % 7 == 6 else []))
    ]
    with pytest.raises(DataError, match="or whether of an evaluation, cannot be told"):
        in_order(with_evaluations)
    resumed = in_order([*rows[:20], {**rows[19], "reward": 9.0}, *rows[20:]])  # it crashed after step 20 was logged
    assert resumed.rows[19]["reward"] == 9.0


def test_rows_of_several_processes_that_say_the_same_are_one():
    rows = [{"step": n, "reward": 0.1 * n, "rank": rank} for n in range(1, 13) for rank in range(4)]
    assert [row["reward"] for row in in_order(rows).rows] == [0.1 * n for n in range(1, 13)]


def test_seconds_order_rows_and_number_no_steps():
    for first in (1.7e9, 0.5):
        ordered = in_order([{"step": first + 13.7 * n, "reward": n} for n in (3, 1, 2)])
        assert [row["reward"] for row in ordered.rows] == [1, 2, 3]
        assert ordered.steps == [1.0, 2.0, 3.0]
