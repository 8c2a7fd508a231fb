"""What a monitor writes and says, row by row."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kellet.diagnosis.history import read_history
from kellet.diagnosis.import_logs import import_history
from kellet.diagnosis.trainers import TRAINERS
from kellet.errors import DataError, InputError
from kellet.live.limits import Limits, limits_of
from kellet.live.monitor import Monitor
from kellet.live.translate import Translator, numeric
from tests.live.conftest import grpo


def iterations(monitor):
    return [row["iteration"] for row in read_history(monitor.history.path)]


def events(monitor):
    return [json.loads(line) for line in monitor.alarms.path.read_text().splitlines()]


def test_rows_are_written_in_kellets_names_and_units(watch):
    monitor = watch(trainer="trl-grpo")
    monitor.row(grpo(7), 7)
    (row,) = read_history(monitor.history.path)
    assert row["iteration"] == 7
    assert row["objective/kl_k3"] == pytest.approx(2.0)  # 0.02 nats a token, 100 tokens
    assert (row["objective/reward"], row["tokens/truncated_share"]) == (1.0, 0.1)


def test_a_history_row_by_row_is_that_of_import_logs(watch):
    """The live way and the way afterwards give the same figures."""
    draw = np.random.default_rng(3)
    rows = [grpo(n, step=n, kl=float(draw.random()), reward=float(draw.normal())) for n in range(1, 12)]
    monitor = watch()
    for row in rows:
        monitor.row(row)
    assert read_history(monitor.history.path) == import_history(rows, None, None).rows


def test_an_alarm_is_said_once_and_recorded(watch):
    monitor = watch()
    for step in range(1, 9):
        monitor.row(grpo(step, kl=0.2), step)
    said = [words for words in monitor.said if "kl_over_budget" in words]
    assert said == [
        "step 3: ALARM kl_over_budget: KL from the reference is 20.0 nats a response (estimated by k3), budget 8"
    ]
    assert [(e["iteration"], e["event"]) for e in events(monitor) if e["alarm"] == "kl_over_budget"] == [(3.0, "rings")]
    assert monitor.stopped is None


def test_an_alarm_that_stop_on_names_stops_in_words(watch):
    monitor = watch(stop_on=["kl_over_budget"])
    for step in (1, 2):
        monitor.row(grpo(step, kl=0.2), step)
        assert monitor.stopped is None
    monitor.row(grpo(3, kl=0.2), 3)
    assert monitor.stopped == "stop at step 3: kl_over_budget, named by stop_on"
    assert events(monitor)[-1]["event"] == "stop"


def test_after_a_restored_checkpoint_rows_are_replaced_and_not_doubled(watch):
    first = watch()
    for step in range(1, 11):
        first.row(grpo(step, reward=0.0), step)
    second = watch()
    second.go_on(6)
    for step in range(7, 10):
        second.row(grpo(step, reward=5.0), step)
    assert iterations(second) == list(range(1, 10))
    assert [row["objective/reward"] for row in read_history(second.history.path)] == [0.0] * 6 + [5.0] * 3
    assert any("4 later rows" in words for words in second.said)


def test_a_log_that_goes_back_by_itself_is_told(watch):
    monitor = watch()
    for step in [*range(1, 11), *range(8, 12)]:
        monitor.row(grpo(step, reward=float(len(monitor.said) + step * 0.1 + monitor.translator.rows)), step)
    assert iterations(monitor) == list(range(1, 12))
    (words,) = [words for words in monitor.said if "logged again" in words]
    assert words.startswith("step 10: step 8 is logged again with other figures")
    assert words.endswith("3 rows from there on are replaced")


def test_the_same_log_twice_changes_nothing_and_says_no_alarm_again(watch):
    rows = [(grpo(step, kl=0.2), step) for step in range(1, 9)]
    first = watch()
    for row, step in rows:
        first.row(row, step)
    before = first.history.path.read_bytes()
    second = watch()
    second.go_on()
    for row, step in rows:
        second.row(row, step)
    assert second.history.path.read_bytes() == before
    assert not [words for words in second.said if "ALARM" in words]
    assert any("still ringing: kl_over_budget" in words for words in second.said)


def test_another_training_in_the_same_folder_does_not_overwrite_the_first(watch):
    first = watch()
    for step in range(1, 5):
        first.row(grpo(step, reward=1.0), step)
    second = watch()
    second.go_on()
    for step in range(1, 3):
        second.row(grpo(step, reward=2.0), step)
    assert iterations(second) == [1, 2]
    kept = read_history(second.history.path.with_name("history.1.jsonl"))
    assert [row["objective/reward"] for row in kept] == [1.0] * 4
    assert any("another training begins" in words for words in second.said)


@pytest.mark.parametrize(
    "content", ['{"reward": 1.0}\n', '{"iteration": 2}\n{"iteration": 1}\n', '{"iteration": null}\n']
)
def test_a_history_without_rising_iterations_is_refused(watch, content):
    monitor = watch()
    monitor.history.path.parent.mkdir()
    monitor.history.path.write_text(content)
    with pytest.raises(DataError, match="rise"):
        monitor.go_on()


def test_rows_out_of_order_are_sorted(watch):
    monitor = watch()
    for step in (3, 1, 4, 2):
        monitor.row(grpo(step, reward=float(step)), step)
    assert [row["objective/reward"] for row in read_history(monitor.history.path)] == [1.0, 2.0, 3.0, 4.0]
    assert len([words for words in monitor.said if "sorted by step" in words]) == 1


def test_rows_of_one_step_that_do_not_contradict_are_one(watch):
    monitor = watch(trainer="verl")
    monitor.row({"step": 1, "critic/score/mean": 0.5})
    monitor.row({"step": 1, "response_length/mean": 80.0})
    (row,) = read_history(monitor.history.path)
    assert (row["objective/reward"], row["tokens/response_mean"]) == (0.5, 80.0)


def test_a_new_training_keeps_the_files_of_an_earlier_one(watch):
    first = watch()
    first.row(grpo(1), 1)
    second = watch()
    second.begin()
    second.row(grpo(1, reward=2.0), 1)
    aside = second.history.path.with_name("history.1.jsonl")
    assert read_history(aside)[0]["objective/reward"] == 1.0
    assert any("kept as" in words for words in second.said)


def test_a_disk_that_fails_is_told_once_and_nothing_is_missing_afterwards(watch, tmp_path):
    out = tmp_path / "full"
    out.write_text("no folder can be made here")
    monitor = watch(out=out)
    for step in (1, 2, 3):
        monitor.row(grpo(step), step)
    assert len([words for words in monitor.said if "cannot be written" in words]) == 1
    out.unlink()
    monitor.row(grpo(4), 4)
    assert iterations(monitor) == [1, 2, 3, 4]
    assert any("can be written again" in words for words in monitor.said)
    recorded = [event["words"] for event in events(monitor)]
    assert any("cannot be written" in words for words in recorded)
    assert any("can be written again" in words for words in recorded)


def test_figures_that_are_no_numbers_are_null_and_ring(watch):
    monitor = watch()
    for step in range(1, 4):
        monitor.row(grpo(step, grad_norm=float("nan"), kl=float("nan")), step)
    assert read_history(monitor.history.path)[0]["objective/kl_k3"] is None
    assert [words for words in monitor.said if "ALARM" in words] == [
        "step 2: ALARM not_finite: 'grad_norm', 'kl' is no finite number for 2 rows: the weights may be lost"
    ]


def test_a_product_beyond_all_numbers_is_null(watch):
    monitor = watch()
    monitor.row(grpo(1, kl=1e300, completions__mean_length=1e300), 1)
    assert read_history(monitor.history.path)[0]["objective/kl_k3"] is None


def test_one_step_that_a_loss_scaler_skipped_does_not_ring(watch):
    monitor = watch()
    for step in range(1, 8):
        monitor.row(grpo(step, grad_norm=float("inf") if step == 4 else 0.5), step)
    assert not [words for words in monitor.said if "ALARM" in words]


def test_an_alarm_that_cannot_ring_is_told_and_warned_of_where_it_should_stop(watch):
    monitor = watch(stop_on=["kl_over_budget"])
    for step in range(1, 5):
        row = grpo(step)
        del row["kl"]
        monitor.row(row, step)
    assert any("cannot ring: " in words and "kl_over_budget (KL is not logged)" in words for words in monitor.said)
    assert any(words.startswith("step 3: WARNING: stop_on names kl_over_budget") for words in monitor.said)


def test_too_few_rows_for_a_level_are_told(watch):
    monitor = watch(patience=10)
    for step in range(1, 5):
        monitor.row(grpo(step), step)
    account = monitor.close()
    assert "4 rows were logged and a level takes 10" in monitor.said[-1]
    taken = {entry.name: entry.taken_for for entry in account}
    assert taken["kl"] == "objective/kl_per_token"
    assert taken["epoch"] == ""


def test_evaluations_and_summaries_are_no_iterations(watch):
    monitor = watch()
    assert monitor.row({"eval_reward": 1.0, "eval_completions/mean_length": 3.0}, 1) is None
    assert monitor.row(grpo(1), 1) is not None
    assert monitor.row({"train_runtime": 3.0, "train_loss": 0.1}, 1) is None
    assert iterations(monitor) == [1]


def test_an_unknown_trainer_is_told_once_and_nothing_is_guessed(watch):
    monitor = watch()
    for step in range(1, 9):
        monitor.row({"loss": 0.5, "grad_norm": 1.0, "reward_of_mine": 3.0}, step)
    assert len([words for words in monitor.said if "no trainer is recognised" in words]) == 1
    assert not monitor.history.path.exists()
    monitor.row({"loss": float("nan")}, 9)
    monitor.row({"loss": float("nan")}, 10)
    assert "ALARM not_finite: 'loss'" in monitor.said[-1]


def test_metrics_of_a_trainer_of_ones_own_are_mapped():
    translator = Translator(mapped={"objective/reward": "mine/reward", "objective/kl_k1": "mine/kl"})
    step = translator.step({"mine/reward": 2.0, "mine/kl": 3.0, "iteration": 5})
    assert step.metrics == {"iteration": 5.0, "objective/reward": 2.0, "objective/kl_k1": 3.0}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_kls_one_is_read_throughout_whatever_their_order(order):
    """verl with use_kl_in_reward and use_kl_loss; later the first one is NaN, and the other is not put in its place."""
    names = [("critic/score/mean", 1.0), ("actor/kl_loss", 0.5), ("actor/reward_kl_penalty", 0.1)][::order]
    translator = Translator()
    row = {**dict(names), "response_length/mean": 10.0}
    assert translator.step(row, 1).metrics["objective/kl_k1"] == pytest.approx(1.0)
    notes = [note for note in translator.notes if "both are" in note]
    assert len(notes) == 1
    assert "'actor/reward_kl_penalty' is read" in notes[0]
    later = translator.step({**row, "actor/reward_kl_penalty": float("nan")}, 2)
    assert later.metrics["objective/kl_k1"] is None
    assert "objective/kl_k3" not in later.metrics


def test_a_beta_in_units_of_advantage_is_no_price_of_reward(watch):
    monitor = watch()
    for step in range(1, 20):
        reward = float(step > 9) * 5 + 0.1 * (step % 3)
        row = {
            "critic/score/mean": reward,
            "actor/kl_loss": 0.06,
            "actor/kl_coef": 0.001,
            "response_length/mean": 100.0,
        }
        monitor.row(row, step)
    assert "penalty_small" not in monitor.bells.ringing
    assert any("penalty_small is not asked" in words for words in monitor.said)


def test_numbers_of_every_kind_are_read():
    logged = {"a": np.float32(0.5), "b": torch.tensor(2.0), "c": "1e-3", "train/d": 3, "e": None}
    assert numeric({**logged, "f": True, "g": "text", "h": [1]}) == {"a": 0.5, "b": 2.0, "c": 1e-3, "d": 3.0, "e": None}


FIGURES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(-(10**400), 10**400),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["nan", "1e400", "-0.5", "1_000", "0x1"]),
)
NAMES = sorted({name.theirs for known in TRAINERS.values() for name in known.names} | {"loss", "step", "episode", "x"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(NAMES), FIGURES, max_size=12), max_size=8), data=st.data())
def test_no_figure_raises_and_the_order_of_names_changes_nothing(rows, data):
    turned = [dict(data.draw(st.permutations(list(row.items())))) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        written = []
        for place, logged in enumerate((rows, turned)):
            monitor = Monitor(
                Path(folder) / str(place), Translator("verl"), [].append, ["not_finite"], Limits(patience=3)
            )
            for row in logged:
                monitor.row(row)
            monitor.close()
            path = monitor.history.path
            written.append([{**row} for row in read_history(path)] if path.exists() else [])
        assert written[0] == written[1]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Translator(trainer="ppo"), "trl-ppo"),
        (lambda: Translator(mapped={"objective/rewards": "x"}), "objective/reward,"),
        (lambda: Translator(estimator="k9"), "k1, k2, k3"),
        (lambda: Limits(patience=2), "at least 3"),
        (lambda: Limits(kl_budget=0), "kl_budget"),
        (lambda: Limits(hysteresis=1.5), "below 1"),
    ],
)
def test_wrong_arguments_are_refused_before_the_training(wrong, named):
    with pytest.raises(InputError, match=named):
        wrong()


def test_an_unknown_alarm_to_stop_on_is_refused(watch):
    with pytest.raises(InputError, match="kl_over_budget"):
        watch(stop_on=["kl_budget"])


def test_limits_are_the_parameters():
    from tests.helpers.tiny import config

    changed = config(gate={"kl_budget": 3.0, "length_tolerance": 0.3}, policy={"alarm_patience": 5})
    limits = limits_of(changed, {"reward_left": 0.2})
    assert (limits.kl_budget, limits.length_tolerance, limits.patience, limits.reward_left) == (3.0, 0.3, 5, 0.2)
    with pytest.raises(InputError, match="kl_budgets"):
        limits_of(changed, {"kl_budgets": 3.0})
