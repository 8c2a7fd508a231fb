"""Conditions on figures worked by hand, and how often pure noise rings."""

import math
import re

import numpy as np
import pytest

from kellet.live.alarms import CONDITIONS, NEEDS, Reading, unwatched
from kellet.live.bells import Bells
from kellet.live.course import Course, Step
from kellet.live.growing_log import SILENT
from kellet.live.limits import Limits
from tests.helpers.project import ROOT

PATIENT = Limits(patience=3)
REWARD, LENGTH, CUT = "objective/reward", "tokens/response_mean", "tokens/truncated_share"


def course(broken=(), **columns):
    """A course with one value of each metric a row; None where the row lacks it."""
    names = {name: name.replace("__", "/") for name in columns}
    rows = zip(*columns.values(), strict=True)
    steps = [
        Step(number, {names[name]: value for name, value in zip(columns, row, strict=True) if value != "absent"})
        for number, row in enumerate(rows, 1)
    ]
    for place in broken:
        steps[place] = steps[place]._replace(broken=("loss",))
    return Course(PATIENT.patience, steps)


def test_the_page_lists_every_alarm_with_its_limit():
    page = (ROOT / "docs/use/live.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| (?:`(\w+)` \(([\d.]+)\))? ?\|$", page, re.MULTILINE)
    assert [alarm for alarm, _, _ in rows] == [*CONDITIONS, SILENT]
    assert all(getattr(Limits(), limit) == float(default) for _, limit, default in rows if limit)


WOBBLE = (0.3, -0.8, 0.5, 0.1, -0.6, 0.9, -0.4, 0.6, -0.2)
"""The first three and the last three have the mean 0; the last three have the median -0.2."""


def jump(before, after, rows=9, wobble=0.05):
    """``rows`` values about ``before``, then as many about ``after``."""
    return [level + wobble * WOBBLE[row] for level in (before, after) for row in range(-rows, 0)]


def read(name, made, limits=PATIENT):
    return CONDITIONS[name](made, limits)


def test_kl_is_over_budget_by_the_median_of_the_last_rows():
    reading = read("kl_over_budget", course(objective__kl_k3=[1.0, 1.0, 6.0, 12.0, 100.0]))
    assert reading.ratio == pytest.approx(12 / 8)
    assert reading.words == "KL from the reference is 12.0 nats a response (estimated by k3), budget 8"


def test_full_kl_is_read_before_an_estimate():
    reading = read("kl_over_budget", course(objective__kl_k3=[90.0] * 3, objective__kl=[4.0] * 3))
    assert reading.ratio == pytest.approx(0.5)
    assert "estimated" not in reading.words


def test_three_rows_at_twice_the_budget_do_not_wait_for_a_level():
    patient = Limits(patience=10)
    steps = [Step(n, {"objective/kl": value}) for n, value in enumerate([1.0, 20.0, 40.0, 16.0], 1)]
    assert CONDITIONS["kl_over_budget"](Course(10, steps), patient).ratio == pytest.approx(16 / 16)
    assert CONDITIONS["kl_over_budget"](Course(10, steps[:-1]), patient).ratio < 1


def test_a_kl_below_zero_is_told_and_noise_about_zero_is_not():
    assert read("kl_negative", course(objective__kl_k1=[-3.0, -3.5, -3.2])).ratio == 1
    assert read("kl_negative", course(objective__kl_k1=[-0.3, 0.2, -0.1])).ratio == 0
    assert read("kl_negative", course(objective__kl_k1=[-0.001, -0.001, -0.001])).ratio == 0  # rounding
    assert read("kl_negative", course(objective__kl_k1=[-0.1, -9.0, -0.2])).ratio == 0  # mean -3.1, standard error 2.95


@pytest.mark.parametrize(
    ("beta", "kl", "ratio"),
    [(0.1, 5.0, 0.25 * 5 / 0.5), (0.4, 5.0, 0.25 * 5 / 2), (0.1, 3.0, 0)],  # at 3 nats: not yet half of the budget
)
def test_the_penalty_is_small_beside_the_gain(beta, kl, ratio):
    made = course(objective__reward=jump(0, 5), objective__kl=[kl] * 18, objective__kl_coef=[beta] * 18)
    reading = read("penalty_small", made)
    assert reading.ratio == pytest.approx(ratio)
    if ratio > 1:
        assert reading.words.startswith("β·KL takes 0.5 of a reward gain of 5 (10%) at 5.0 nats")


def test_reward_rises_with_length():
    lengths = jump(100, 130, wobble=2)
    reading = read("reward_with_length", course(objective__reward=jump(0, 4), tokens__response_mean=lengths))
    assert reading.ratio == pytest.approx(0.3 / 0.1)
    assert reading.words.startswith("answers are 30% longer than at the start (130 tokens, tolerated 10%)")
    falling = read("reward_with_length", course(objective__reward=jump(4, 0), tokens__response_mean=lengths))
    assert falling.ratio < 1


def test_a_difference_that_may_be_noise_neither_begins_nor_ends_an_alarm():
    made = course(objective__reward=jump(0, 1, wobble=3), tokens__response_mean=jump(100, 130))
    ratio = read("reward_with_length", made).ratio
    assert 1 - PATIENT.hysteresis < ratio < 1


def test_cut_answers():
    made = course(tokens__truncated_share=jump(0.02, 0.12, wobble=0.01))
    assert read("truncation", made).ratio == pytest.approx(0.1 / 0.05)
    assert read("all_truncated", made).ratio == pytest.approx((0.12 - 0.002) / 0.9)
    assert read("all_truncated", course(tokens__truncated_share=[0.99] * 3)).ratio == pytest.approx(1.1)


def test_entropy_and_length_that_are_nearly_gone():
    assert read("entropy_collapse", course(objective__entropy=[2.0, 2, 2, 0.4, 0.4, 0.4])).ratio == pytest.approx(1.25)
    assert read("entropy_collapse", course(objective__entropy=[2.0, 2, 2, 0.0, 0.0, 0.0])).ratio == math.inf
    assert read("length_collapse", course(tokens__response_mean=[80.0, 80, 80, 10, 10, 10])).ratio == pytest.approx(2)


def test_a_reward_that_fell_back():
    lost = [*jump(0, 4, wobble=0.03), *jump(1, 1, rows=3, wobble=0.03)]
    assert read("reward_lost", course(objective__reward=lost)).ratio == pytest.approx(3.004 / 2.002)  # best: 4.004
    kept = [*jump(0, 4, wobble=0.03), *jump(3, 3, rows=3, wobble=0.03)]
    assert read("reward_lost", course(objective__reward=kept)).ratio < 1 - PATIENT.hysteresis


def test_nothing_to_learn_from():
    assert read("reward_flat", course(objective__reward_std=[0.0, 0.0, 0.0])).ratio == 1
    assert read("reward_flat", course(objective__reward_std=[0.0, 0.01, 0.0])).ratio == 0
    assert read("value_blind", course(ppo__value__explained_variance=[-0.1, 0.0, -2.0])).ratio == 1
    assert read("value_blind", course(ppo__value__explained_variance=[-0.1, 0.01, -2.0])).ratio == 0
    assert read("gradient_blown_up", course(ppo__grad_norm=[1.0, 1, 1, 30, 20, 40])).ratio == pytest.approx(3)


def test_a_figure_that_is_no_number_twice():
    assert read("not_finite", course(objective__kl=[1.0] * 4, broken=(3,))).ratio == 0
    assert read("not_finite", course(objective__kl=[1.0] * 4, broken=(2, 3))).ratio == 1
    assert "'loss'" in read("not_finite", course(objective__kl=[1.0] * 4, broken=(2, 3))).words


def test_what_is_not_logged_has_no_figure():
    made = course(objective__reward=[1.0] * 9)
    readings = {name: condition(made, PATIENT) for name, condition in CONDITIONS.items()}
    assert {name for name, reading in readings.items() if reading is not None} == {"not_finite", "reward_lost"}
    assert set(unwatched(made)) == set(NEEDS) - {"reward_lost"}
    assert unwatched(made)["penalty_small"] == "KL and objective/kl_coef"


def test_a_kl_of_exactly_zero_was_not_measured():
    assert unwatched(course(objective__kl_k3=[0.0] * 3))["kl_over_budget"].startswith("KL")
    assert "kl_over_budget" not in unwatched(course(objective__kl_k3=[0.0, 0.0, 0.001]))


def test_a_metric_that_is_no_longer_logged_is_not_read():
    assert read("kl_over_budget", course(objective__kl=[50.0, 50.0, 50.0, None, None])) is not None
    assert read("kl_over_budget", course(objective__kl=[50.0, 50.0, 50.0, None, None, None])) is None


def test_an_alarm_rings_once_and_is_over_after_a_while_well_inside_its_limit():
    bells = Bells(Limits(patience=3))
    ratios = [0.5, 1.0, 1.4, 0.95, 0.97, 0.95, 0.96, 0.8, 0.8, 0.95, 0.8, 0.8, 0.8, 1.2]
    events = [[change.event for change in bells.update({"x": Reading(ratio, "")})] for ratio in ratios]
    assert [(place, event) for place, found in enumerate(events) for event in found] == [
        (1, "rings"),
        (12, "over"),
        (13, "rings"),
    ]


def noise(generator, size, phi):
    """An autoregression of order one with standard deviation 1."""
    steps = generator.normal(size=size) * math.sqrt(1 - phi * phi)
    values = [generator.normal()]
    for step in steps[1:]:
        values.append(phi * values[-1] + step)
    return np.array(values)


@pytest.mark.parametrize(("phi", "most"), [(0.0, 0), (0.5, 1)])
def test_noise_seldom_rings(phi, most):
    """20 trainings of 150 rows in which nothing happens, however much their rows differ."""
    rang = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        columns = {
            REWARD: 1 + 0.3 * noise(draw, 150, phi),
            "objective/kl_k3": 4 + noise(draw, 150, phi),
            LENGTH: 200 * (1 + 0.1 * noise(draw, 150, phi)),
            CUT: np.clip(0.2 + 0.05 * noise(draw, 150, phi), 0, 1),
            "objective/entropy": 1 + 0.2 * noise(draw, 150, phi),
            "ppo/grad_norm": np.exp(0.7 * noise(draw, 150, phi)),
            "objective/kl_coef": np.full(150, 0.05),
        }
        bells, made = Bells(Limits()), Course(Limits().patience)
        changes = []
        for row in range(150):
            made.add(Step(row, {name: float(values[row]) for name, values in columns.items()}))
            changes += bells.after(made)
        rang += bool(changes)
    assert rang <= most
