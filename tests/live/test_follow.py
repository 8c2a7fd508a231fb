"""``kellet follow``: logs that grow, in each of their forms, as a user would run it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from kellet.diagnosis.history import read_history
from kellet.diagnosis.import_logs import import_history
from kellet.diagnosis.log_files import open_log
from kellet.errors import DataError
from kellet.live import Limits, follow
from tests.helpers.command import kellet
from tests.helpers.foreign_logs import write_logs
from tests.helpers.project import ROOT


def verl(step, kl=0.01):
    """A row of verl's metrics; 100 tokens, so ``kl`` nats a token are 100 times as many a response."""
    return {
        "critic/score/mean": 0.5 + 0.01 * step,
        "actor/reward_kl_penalty": kl,
        "actor/reward_kl_penalty_coeff": 0.01,
        "response_length/mean": 100.0,
        "response_length/clip_ratio": 0.1,
    }


def file_logger(step):
    return json.dumps({"step": step, "data": verl(step)})


def console(step):
    figures = " - ".join(f"{name}:{value}" for name, value in verl(step).items())
    return f"\x1b[36m(TaskRunner pid=81)\x1b[0m step:{step} - {figures}"


def openrlhf(step):
    row = {"policy_loss": 0.1, "reward": 0.5 + 0.01 * step, "kl": 0.01, "response_length": 100.0}
    return f"2026-11-26 INFO Global step {step}: {row}"


def csv(step):
    cells = {"step": step, **verl(step)}
    return ",".join(cells if step == 0 else (str(value) for value in cells.values()))


FORMS = {
    "verl.jsonl": (file_logger, 1),
    "verl.log": (console, 1),
    "openrlhf.log": (openrlhf, 1),
    "wandb.csv": (csv, 0),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_gives_the_history_that_import_logs_gives(tmp_path, name):
    line, first = FORMS[name]
    log = tmp_path / name
    log.write_text("".join(line(step) + "\n" for step in range(first, 13)))
    said = []
    followed = follow(log, tmp_path / "live", once=True, say=said.append)
    assert followed.rows == 12
    assert kellet("import-logs", str(log), "--out", str(tmp_path / "after")).exit_code == 0
    live, after = (read_history(tmp_path / folder / "history.jsonl") for folder in ("live", "after"))
    assert live == after
    assert live[3]["objective/reward"] == pytest.approx(0.54)
    assert [row["iteration"] for row in live] == list(range(1, 13))


def test_the_verb_says_alarms_and_ends_with_code_3(tmp_path):
    write_logs(tmp_path)
    done = kellet(
        "follow", str(tmp_path / "verl.jsonl"), "--out", str(tmp_path / "out"), "--once", "--stop-on", "kl_over_budget"
    )
    assert done.exit_code == 3
    assert "ALARM kl_over_budget" in done.output
    assert "named by stop_on" in done.output
    assert "'actor/ppo_kl'" in done.output  # the account has what was left out
    assert len(read_history(tmp_path / "out" / "history.jsonl")) == 30


def test_the_page_shows_what_the_verb_says(tmp_path, monkeypatch):
    page = (ROOT / "docs/use/live.md").read_text()
    (shown,) = re.findall(r"^```text\n\$ kellet ([^\n]*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path)
    assert kellet(*shown[0].split()).output.startswith(shown[1])


def test_without_stop_on_an_alarm_is_no_failure(tmp_path):
    write_logs(tmp_path)
    arguments = ["follow", str(tmp_path / "verl.jsonl"), "--out", str(tmp_path / "out"), "--once"]
    assert kellet(*arguments).exit_code == 0
    assert "ALARM" not in kellet(*arguments, "--limit", "kl_budget=90", "--limit", "penalty_share=0.01").output.replace(
        "ALARM reward_with_length", ""
    )


def test_the_parameters_set_the_limits(tmp_path):
    write_logs(tmp_path)
    done = kellet(
        "follow", str(tmp_path / "verl.jsonl"), "--out", str(tmp_path / "out"), "--once", "--set", "gate.kl_budget=30"
    )
    assert "kl_over_budget" not in done.output


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (None, [], "does not exist"),
        ("nothing of use\n" * 9, [], "holds no rows"),
        ('{"step": 1, "data": {"critic/score/mean": 1}}\n', ["--stop-on", "kl"], "kl_over_budget"),
        ('{"step": 1, "data": {"critic/score/mean": 1}}\n', ["--limit", "kl_budget"], "NAME=VALUE"),
        ('{"step": 1, "data": {"critic/score/mean": 1}}\n', ["--limit", "kl_budget=eight"], "number"),
        ('{"step": 1, "data": {"critic/score/mean": 1}}\n', ["--trainer", "ppo"], "trl-ppo"),
        ('{"step": 1, "data": {"critic/score/mean": 1}}\n', ["--interval", "0"], "interval"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(tmp_path, content, arguments, words):
    log = tmp_path / "log.txt"
    if content is not None:
        log.write_text(content)
    done = kellet("follow", str(log), "--out", str(tmp_path / "out"), "--once", *arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert not (tmp_path / "out").exists()


def test_a_broken_line_of_json_is_told_with_its_number(tmp_path):
    log = tmp_path / "verl.jsonl"
    log.write_text("\n".join([file_logger(1), "{broken \x1b[31m", file_logger(2), file_logger(3)]) + "\n")
    said = []
    follow(log, tmp_path / "out", once=True, say=said.append)
    (words,) = [words for words in said if "passed over" in words]
    assert "line 2" in words
    assert "\x1b" not in words
    assert [row["iteration"] for row in read_history(tmp_path / "out" / "history.jsonl")] == [1, 2, 3]


def test_a_csv_line_with_too_few_cells_is_told(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("\n".join([csv(0), csv(1), "2,0.5", csv(3)]) + "\n")
    said = []
    follow(log, tmp_path / "out", once=True, say=said.append)
    assert any("line 3 has 2 cells for 6 columns" in words for words in said)
    assert [row["iteration"] for row in read_history(tmp_path / "out" / "history.jsonl")] == [1, 3]


def test_numbers_with_commas_are_not_guessed(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("step;critic/score/mean;response_length/mean\n1;0,25;1,024\n")
    with pytest.raises(DataError, match=r"line 2 .*comma"):
        follow(log, tmp_path / "out", once=True, say=[].append)
    log.write_text("step;critic/score/mean;response_length/mean\n1;0.25;1024\n")
    follow(log, tmp_path / "out", once=True, say=[].append)
    (row,) = read_history(tmp_path / "out" / "history.jsonl")
    assert (row["objective/reward"], row["tokens/response_mean"]) == (0.25, 1024)


def test_what_a_notebook_printed_is_read(tmp_path):
    """transformers prints figures as text, behind a progress bar, with evaluations between."""
    log = tmp_path / "train.out"
    lines = [
        f" {n}%|#| [00:01<00:10]\r{{'loss': '0.1', 'reward': '{n}', 'completions/mean_length': '10'}}" for n in (1, 2)
    ]
    log.write_text(
        "\n".join([lines[0], "{'eval_reward': '9', 'eval_completions/mean_length': '9'}", "noise", lines[1]]) + "\n"
    )
    follow(log, tmp_path / "out", once=True, say=[].append)
    assert [row["objective/reward"] for row in read_history(tmp_path / "out" / "history.jsonl")] == [1, 2]


def test_rows_of_no_known_trainer_are_told_while_following(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": n, "my/score": 1.0}) + "\n" for n in range(9)))
    said = []
    with pytest.raises(DataError, match="no rows of a trainer"):
        follow(log, tmp_path / "out", once=True, say=said.append)
    assert len([words for words in said if "no trainer is recognised" in words]) == 1
    assert (
        kellet(
            "follow", str(log), "--once", "--out", str(tmp_path / "out"), "--map", "objective/reward=my/score"
        ).exit_code
        == 0
    )


def test_a_silent_log_stops_where_that_is_asked_for(tmp_path):
    log = tmp_path / "verl.jsonl"
    log.write_text(file_logger(1) + "\n")
    followed = follow(
        log, tmp_path / "out", stop_on=["silent"], interval=0.05, limits=Limits(silence=0.2), say=[].append
    )
    assert followed.stopped.startswith("ALARM silent: no new row")


@pytest.fixture
def following(tmp_path):
    """``kellet follow`` as a process of its own; ended at the end of the test."""
    started = []

    def start(*arguments):
        command = [
            sys.executable,
            "-m",
            "kellet",
            "follow",
            "verl.jsonl",
            "--out",
            "out",
            "--interval",
            "0.1",
            *arguments,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(found):
    end = time.monotonic() + 60
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_growing_log_is_followed_until_an_alarm(tmp_path, following):
    process, log = following("--stop-on", "kl_over_budget"), tmp_path / "verl.jsonl"
    history = tmp_path / "out" / "history.jsonl"
    with log.open("a") as file:
        file.write(file_logger(1) + "\n" + file_logger(2)[:30])  # a line without its end
        file.flush()
        wait_for(lambda: history.exists() and history.read_text().count("\n") == 1)
        file.write(file_logger(2)[30:] + "\n")
        file.flush()
        wait_for(lambda: history.read_text().count("\n") == 2)
        for step in (3, 4, 5):
            file.write(json.dumps({"step": step, "data": verl(step, kl=0.3)}) + "\n")
    assert process.wait(60) == 3
    assert [row["iteration"] for row in read_history(history)] == [1, 2, 3, 4, 5]


def test_ctrl_c_ends_in_one_line(tmp_path, following):
    (tmp_path / "verl.jsonl").write_text(file_logger(1) + "\n")
    process = following()
    wait_for(lambda: (tmp_path / "out" / "history.jsonl").exists())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.rstrip().splitlines()[-1].startswith("no longer following verl.jsonl")


@pytest.mark.parametrize("first", [0, 200])
def test_a_log_imported_and_followed_is_the_same_history(tmp_path, first):
    path = tmp_path / "verl.jsonl"
    path.write_text("".join(file_logger(step) + "\n" for step in range(first, first + 120, 10)))
    for _ in range(2):  # the second time the history is taken up, also one that begins with step 0
        follow(path, tmp_path / "run", once=True, say=lambda _: None)
    imported = import_history(open_log(path).rows, None, None).rows
    assert read_history(tmp_path / "run" / "history.jsonl") == imported
    assert [row["iteration"] for row in imported] == list(range(first, first + 120, 10))


def followed(tmp_path, lines, name="log.jsonl", **settings):
    said = []
    (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    follow(tmp_path / name, tmp_path / "run", once=True, say=said.append, **settings)
    return read_history(tmp_path / "run" / "history.jsonl"), " | ".join(said)


def test_rows_of_an_evaluation_never_replace_those_of_training(tmp_path):
    rows = [{"step": step, **verl(step)} for step in range(1, 13)]
    evaluations = [{**row, "critic/score/mean": 9.0, "split": "eval"} for row in rows[3::4]]
    both = sorted([*rows, *evaluations], key=lambda row: row["step"])
    history, said = followed(tmp_path, map(json.dumps, both))
    assert max(row["objective/reward"] for row in history) < 1
    assert "rows that column 'split' says are of an evaluation are left out" in said


def test_rows_of_several_processes_are_told(tmp_path):
    rows = [
        json.dumps({"step": step, **verl(step), "critic/score/mean": rank}) for step in range(9) for rank in range(2)
    ]
    assert followed(tmp_path, rows)[1].count("rows of several processes") == 1
    once = [*(file_logger(step) for step in range(9)), json.dumps({"step": 8, "data": verl(8, kl=0.02)})]
    (tmp_path / "again").mkdir()
    assert "several processes" not in followed(tmp_path / "again", once)[1]


def test_the_names_of_two_trainers_in_one_row_are_not_guessed(tmp_path):
    rows = [json.dumps({"step": step, **verl(step), "ppo_clip_ratio": 0.1}) for step in range(9)]
    with pytest.raises(DataError, match="no rows of a trainer"):
        followed(tmp_path, rows)
    assert len(followed(tmp_path, rows, trainer="verl")[0]) == 9


def test_a_row_without_a_step_is_not_numbered_among_those_with_one(tmp_path):
    rows = [{"step": 10 * step, **verl(step)} for step in range(1, 13)]
    del rows[6]["step"]
    history, said = followed(tmp_path, map(json.dumps, rows))
    assert [row["iteration"] for row in history] == [10.0 * n for n in range(1, 13) if n != 7]
    assert "rows without a step" in said


def test_a_kl_that_is_not_measured_is_told(tmp_path):
    rows = [json.dumps({"step": step, "data": verl(step, kl=0.0)}) for step in range(12)]
    assert "KL is exactly 0 in 10 rows: not measured" in followed(tmp_path, rows)[1]
    (tmp_path / "b").mkdir()
    rows[2] = file_logger(2)
    assert "not measured" not in followed(tmp_path / "b", rows)[1]


def test_steps_with_their_last_and_rows_in_levels_are_read(tmp_path):
    counts = ({"global_step/max_steps": f"{step}/90", **verl(step)} for step in range(5, 50, 5))
    levels = ({"step": step, "train": verl(step)} for step in range(5, 50, 5))
    for name, rows in (("counts", counts), ("levels", levels)):
        (tmp_path / name).mkdir()
        history = followed(tmp_path / name, map(json.dumps, rows))[0]
        assert [row["iteration"] for row in history] == list(range(5, 50, 5))


def test_no_name_of_a_log_is_a_command_or_a_colour(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"step": step, **verl(step), "\x1b[31m::error::x\n##[add-mask]y": 1} for step in range(1, 12)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for verb in (("follow", "a.jsonl", "--once"), ("import-logs", "a.jsonl"), ("import-logs", "a.jsonl", "--json")):
        result = kellet(*verb, "--out", verb[0])
        assert result.exit_code == 0
        assert "add-mask" in result.output
        assert not re.search("\x1b|##\\[|(?m:^\\s*::)", result.output)
    (tmp_path / "a.log").write_text("##[add-mask]y and no metrics\n")
    result = kellet("import-logs", "a.log")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "add-mask" in result.stderr
    assert "##[" not in result.stderr
