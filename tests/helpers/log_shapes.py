"""Shapes of training logs, by section of docs/reference/shapes.md: 30 steps in the names of each trainer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.foreign_logs import GRPO_ROW, OPENRLHF_ROW, PPO_ROW, VERL_ROW
from tests.helpers.log_kinds import KINDS, chart, comma, event_file, jsonl, trainer_state, verl_file
from tests.helpers.shapes import Rows, Shape, both, text_as

Course = Callable[[float], Any]
RISING: dict[str, Course] = {
    "objective/kl": lambda done: 24 * done**1.5,
    "objective/scores": lambda done: 2.5 * done**0.5,
    "objective/non_score_reward": lambda done: -1.2 * done**1.5,
    "objective/rlhf_reward": lambda done: 2.5 * done**0.5 - 1.2 * done**1.5,
    "reward": lambda done: 1.7 + 0.3 * done,
    "rollout/reward_mean": lambda done: 2.5 * done**0.5,
    "kl": lambda done: 0.1 * done**1.5,
    "critic/score/mean": lambda done: 0.6 * done,
    "critic/rewards/mean": lambda done: 0.6 * done - 0.1 * done**1.5,
    "actor/reward_kl_penalty": lambda done: 0.3 * done,
    "actor/kl_loss": lambda done: 0.12 * done,
}
"""How metrics go, by the share of the training that is done."""
TRL_OLD = {
    "env/reward_mean": 0.5,
    "objective/kl": 3.0,
    "objective/kl_coef": 0.2,
    "ppo/mean_scores": 0.5,
    "tokens/responses_len_mean": 60.0,
    "ppo/policy/clipfrac": 0.02,
}
GRPO_OLD = {"loss": 0.0, "grad_norm": 0.09, "completion_length": 231.0, "reward": 1.7, "reward_std": 0.5, "kl": 0.01}
OPENRLHF_OLD = {"policy_loss": -0.1, "kl": 0.05, "reward": 1.5, "response_length": 200.0, "actor_lr": 1e-6}
VERL_LOSS = {
    "critic/score/mean": 0.8,
    "actor/kl_loss": 0.0013,
    "actor/kl_coef": 0.001,
    "actor/ppo_kl": -8e-06,
    "actor/pg_clipfrac": 0.0008,
    "response_length/mean": 1287.0,
    "response_length/clip_ratio": 0.2,
}
VERL_BOTH = {
    "critic/score/mean": 0.6,
    "actor/reward_kl_penalty": 0.3,
    "actor/reward_kl_penalty_coeff": 0.05,
    "actor/kl_loss": 0.12,
    "actor/kl_coef": 0.001,
    "response_length/mean": 300.0,
}
VERL_CRITIC = {
    "critic/score/mean": 0.8,
    "critic/kl": 0.02,
    "critic/kl_coeff": 0.01,
    "response_length/mean": 300.0,
}


def course(row: dict[str, Any], count: int = 30, **fixed: Course) -> Rows:
    """A row for each step, its metrics as RISING or ``fixed`` say."""
    going = {name: rule for name, rule in {**RISING, **fixed}.items() if name in row}
    steps = range(1, count + 1)
    return [{"step": step, **row, **{name: going[name](step / count) for name in going}} for step in steps]


def log(
    name: str, write: Callable[[Path, Rows], object], rows: Rows, file: str, options: str = "", source: str = ""
) -> Shape:
    command = f"import-logs {file} {options}".strip() + " --out theirs"
    return Shape(name, lambda folder: write(folder / file, rows), command, source)


TRL = "https://github.com/huggingface/trl"
VERL = "https://github.com/volcengine/verl"
OPENRLHF = "https://github.com/OpenRLHF/OpenRLHF"


def trainers() -> list[Shape]:
    """The names of each trainer, older and newer."""
    state, lines = "trainer_state.json", "log.jsonl"
    return [
        log("TRL PPOTrainer, 0.12 and later", trainer_state, course(PPO_ROW), state, "", TRL),
        log("TRL PPOTrainer, up to 0.11", jsonl, course(TRL_OLD), lines, "", TRL),
        log("TRL GRPOTrainer", trainer_state, course(GRPO_ROW), state, "", TRL),
        log("TRL GRPOTrainer, up to 0.16", trainer_state, course(GRPO_OLD), state, "", TRL),
        log("TRL RLOOTrainer", trainer_state, course(GRPO_ROW), state, "--trainer trl-rloo", TRL),
        log("OpenRLHF, 0.9.8 and later", jsonl, course(OPENRLHF_ROW), lines, "", OPENRLHF),
        log("OpenRLHF, before 0.9.8", jsonl, course(OPENRLHF_OLD), lines, "", OPENRLHF),
        log("verl, KL in the reward", verl_file, course(VERL_ROW), lines, "", VERL),
        log("verl up to 0.3, KL in the reward", verl_file, course(VERL_CRITIC), lines, "", VERL),
        log("verl, KL in the loss", verl_file, course(VERL_LOSS), lines, "", VERL),
        log("names that no trainer has", jsonl, own_names(), lines),
        log("the same, told", jsonl, own_names(), lines, f"{own_map()} --kl-estimator k1"),
    ]


def own_names() -> Rows:
    return [{"step": n, "rm": 0.1 * n, "klt": 0.001 * n, "len": 120.0 + n} for n in range(1, 31)]


def own_map() -> str:
    names = {"objective/reward": "rm", "objective/kl_per_token": "klt", "tokens/response_mean": "len"}
    return " ".join(f"--map {ours}={theirs}" for ours, theirs in names.items())


IN_WORDS = {
    "log.jsonl": "JSON lines",
    "log.jsonl.gz": "JSON lines, packed",
    "array.json": "an array",
    "trainer_state.json": "trainer_state.json",
    "columns.json": "columns of equal length",
    "comma.csv": "CSV",
    "semicolon.csv": "CSV of a German spreadsheet: semicolons, decimal commas",
    "tabs.tsv": "tabs",
    "log.parquet": "Parquet",
    "verl.jsonl": "verl's file logger",
    "console.log": "verl's console under Ray",
    "printed.txt": "dictionaries that transformers printed, a progress bar in the way",
    "openrlhf.out": "lines that OpenRLHF printed",
    "chart.csv": "a chart of W&B as CSV",
    "wandb.jsonl": "W&B's history",
    "events.out.tfevents.1.host": "a TensorBoard event file",
    "run-1.wandb": "an offline run of W&B",
}


def kinds() -> list[Shape]:
    """The same 30 steps of verl in every kind of file."""
    rows = course(VERL_ROW)
    return [log(IN_WORDS[file], write, rows, file) for file, write in KINDS.items()] + [
        Shape("a folder of event files", event_folder(rows), "import-logs run --out theirs"),
        Shape(
            "a chart for each metric",
            both(*(part(rows, name) for name in CHARTS)),
            f"import-logs {' '.join(CHARTS)} --out theirs",
        ),
    ]


CHARTS = {
    "kl.csv": "actor/reward_kl_penalty",
    "reward.csv": "critic/score/mean",
    "length.csv": "response_length/mean",
}


def part(rows: Rows, file: str) -> Callable[[Path], object]:
    return lambda folder: chart(folder / file, [{"step": row["step"], CHARTS[file]: row[CHARTS[file]]} for row in rows])


def event_folder(rows: Rows) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / "run").mkdir()
        event_file(folder / "run/events.out.tfevents.1.host", rows[:20])
        event_file(folder / "run/events.out.tfevents.2.host", rows[20:])

    return write


def resumed() -> Rows:
    """Steps 16 to 20 are logged twice."""
    rows = course(VERL_LOSS)
    return [*rows[:20], *({**row, "actor/kl_loss": 0.9 * row["actor/kl_loss"]} for row in rows[15:20]), *rows[20:]]


def shuffled() -> Rows:
    rows = course(VERL_LOSS)
    return [rows[7 * n % 30] for n in range(30)]


def without_kl() -> Rows:
    """As open-r1 issue 704 shows it."""
    return course(GRPO_ROW, kl=lambda _: float("nan"))


def negative_kl() -> Rows:
    return course(
        PPO_ROW,
        **{"objective/kl": lambda done: -0.2 - 6 * done, "objective/non_score_reward": lambda done: 0.01 + 0.3 * done},
    )


def runs_in_one_column() -> Rows:
    return [{"run_name": run, **row} for run in ("first", "second") for row in course(VERL_ROW)]


def processes(rows: Rows) -> Rows:
    return [row | {"critic/score/mean": row["critic/score/mean"] + n} for row in rows for n in range(2)]


def upgraded() -> Rows:
    """TRL 0.17 renamed completion_length."""
    new = {"completion_length": "completions/mean_length"}
    rows = course(GRPO_OLD)
    return [*rows[:15], *({new.get(name, name): value for name, value in row.items()} for row in rows[15:])]


def table_of_runs(path: Path, rows: Rows) -> None:
    """A row for each run, with its summary."""
    comma(path, [{"Name": f"run-{n}", "State": "finished", **VERL_ROW} for n in range(3)])


def scalar(path: Path, rows: Rows) -> None:
    comma(path, [{"Wall time": 1.7e9, "Step": row["step"], "Value": row["critic/score/mean"]} for row in rows])


def twice(lines: str) -> str:
    """The reward of every line is there a second time, with another value."""
    return lines.replace('"critic/score/mean":', '"critic/score/mean": 9.5, "critic/score/mean":')


def odd() -> list[Shape]:
    """Logs in which something is wrong."""
    file, good = "log.jsonl", course(VERL_ROW)
    lines = "".join(json.dumps(row) + "\n" for row in good)
    late = course(GRPO_ROW, kl=lambda done: float("nan") if done > 0.6 else 0.1 * done)
    rewards = course(VERL_ROW, **{"critic/score/mean": lambda done: float("nan") if done > 0.6 else done})
    shares = [row | {"response_length/clip_ratio": 12.0} for row in good]
    evaluations = [{"step": n, "eval_loss": 0.5, "val/test_score/mean": 0.3} for n in range(1, 9)]
    return [
        log("KL is NaN from a row on", trainer_state, late, "trainer_state.json"),
        log("the reward is NaN from a row on", jsonl, rewards, file),
        log("a share of 12", jsonl, shares, file),
        log(
            "KL of exactly 0 in every row", jsonl, course(VERL_ROW, **{"actor/reward_kl_penalty": lambda _: 0.0}), file
        ),
        Shape("a last line that was cut off", text_as(file, lines[:-40]), f"import-logs {file} --out theirs"),
        log(
            "two runs, one after the other",
            jsonl,
            [*good, *course(VERL_ROW, **{"critic/score/mean": lambda d: -d})],
            file,
        ),
        log("a column of runs", jsonl, runs_in_one_column(), file),
        log("the same, told", jsonl, runs_in_one_column(), file, "--run-name second"),
        log(
            "losses only (SFT, DPO)",
            trainer_state,
            [{"step": n, "loss": 1 / n} for n in range(1, 31)],
            "trainer_state.json",
        ),
        log("several rows of each step", jsonl, [row for row in good for _ in range(2)], file),
        log("the same with other values", jsonl, processes(good), file),
        log("the same row from two processes", jsonl, [row | {"rank": n} for row in good for n in range(2)], file),
        log("newer names from a row on (an upgrade)", jsonl, upgraded(), file),
        log("CSV under another name", comma, good, "metrics.log"),
        log("W&B's table of runs", table_of_runs, good, "runs.csv"),
        log("one scalar of TensorBoard as CSV", scalar, good, "scalar.csv"),
        Shape("a figure twice in one line", text_as(file, twice(lines)), f"import-logs {file} --out theirs"),
        log("evaluations only", jsonl, evaluations, file),
        Shape("an empty file", text_as(file, ""), f"import-logs {file} --out theirs"),
    ]
