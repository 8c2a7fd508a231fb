"""The verb ``kellet import-logs``: all is read, checked and diagnosed first, then written; what it says."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from tests.helpers.foreign_logs import VERL_ROW


def log(folder, rows, name="verl.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def samples(folder, name, **more):
    return log(
        folder,
        [{"input": f"q{n}", "output": f"a b {n}", "score": n / 10, **more} for n in range(12) for _ in "ab"],
        name,
    )


def run(*arguments):
    return CliRunner().invoke(main, ["import-logs", *map(str, arguments)], catch_exceptions=False)


def steps(count=12):
    return [{"step": n, **VERL_ROW} for n in range(1, count + 1)]


@pytest.mark.parametrize("options", [(), ("--trainer", "trl-ppo")])
def test_a_log_without_iterations_changes_nothing(tmp_path, options):
    out = tmp_path / "out"
    done = run(log(tmp_path, [{"loss": 1}, {"loss": 2}]), "--out", out, *options)
    assert done.exit_code == 2
    assert not out.exists()


def test_answers_that_cannot_be_read_keep_the_log_from_being_written(tmp_path):
    out, good = tmp_path / "out", log(tmp_path, steps())
    bad = log(tmp_path, [{"input": "q", "output": "a"}], "bad.jsonl")
    done = run(good, "--candidate", bad, "--reference", samples(tmp_path, "r.jsonl"), "--out", out)
    assert done.exit_code == 2
    assert "reward" in done.output
    assert not out.exists()


def test_both_are_written_and_an_old_history_is_told(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "history.jsonl").write_text("old\n")
    sides = ("--candidate", samples(tmp_path, "c.jsonl"), "--reference", samples(tmp_path, "r.jsonl"))
    done = run(log(tmp_path, steps()), *sides, "--out", out)
    assert done.exit_code == 0
    assert f"{out / 'history.jsonl'} was there already and is replaced" in done.output
    assert len((out / "history.jsonl").read_text().splitlines()) == 12
    assert len(pd.read_parquet(out / "evaluation.parquet")) == 48
    assert "'output'" in done.output  # the account of the answers
    assert done.output.index("A1  ") < done.output.index("in the file")


def test_json_has_all_for_programs(tmp_path):
    out = tmp_path / "out"
    rows = [*steps(), {"step": 12, "timing_s/gen": 1.0}]
    found = json.loads(
        CliRunner().invoke(main, ["import-logs", str(log(tmp_path, rows)), "--out", str(out), "--json"]).stdout
    )
    assert (found["trainer"], found["iterations"]) == ("verl", 12)
    assert found["files"] == [str(out / "history.jsonl")]
    account = {entry["name"]: entry for entry in found["account"]}
    assert account.keys() == {key for row in rows for key in row}
    assert account["actor/reward_kl_penalty"]["taken_for"] == "objective/kl_per_token"
    assert account["actor/ppo_kl"]["taken_for"] is None
    assert [item["id"] for item in found["hypotheses"]][:2] == ["A1", "A2"]
    assert any("1 row holds no reward" in note for note in found["notes"])


def test_map_and_run_name_reach_the_log(tmp_path):
    rows = [{"step": n, "run_name": run, "rm": 0.5, "klt": 0.1, "len": 20.0} for run in "ab" for n in range(1, 10)]
    out, mapped = tmp_path / "out", ("objective/reward=rm", "objective/kl_per_token=klt", "tokens/response_mean=len")
    options = [text for pair in mapped for text in ("--map", pair)]
    done = run(log(tmp_path, rows), *options, "--kl-estimator", "k3", "--run-name", "b", "--out", out)
    assert done.exit_code == 0
    assert json.loads((out / "history.jsonl").read_text().splitlines()[0])["objective/kl_k3"] == 2.0
    assert run(log(tmp_path, rows), *options, "--out", out).exit_code == 2
    wrong = run(log(tmp_path, rows), "--map", "reward=rm", "--out", out)
    assert wrong.exit_code == 2
    assert "OURS being one of objective/reward" in wrong.output
    twice = run(log(tmp_path, rows), "--map", "objective/reward=rm", "--map", "objective/reward=len", "--out", out)
    assert "gives objective/reward twice" in twice.output


def test_several_logs_are_one(tmp_path):
    """The parts of a run that was resumed, in their order."""
    parts = log(tmp_path, steps(8), "a.jsonl"), log(tmp_path, steps(12)[6:], "b.jsonl")
    done = run(*parts, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "verl: 12 iterations" in done.output
    assert "2 rows repeat another of their step" in done.output


def test_map_reaches_the_answers(tmp_path):
    sides = [
        log(tmp_path, [{"ask": f"q{n}", "output": "a b", "score": 0.5} for n in range(12)], name)
        for name in ("c.jsonl", "r.jsonl")
    ]
    done = run("--candidate", sides[0], "--reference", sides[1], "--map", "prompt=ask", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output


def test_names_of_a_log_are_never_printed_raw(tmp_path):
    done = run(log(tmp_path, [{**row, "\x1b[31mred": 1.0, "a\nb": 2.0} for row in steps()]), "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert r"'\x1b[31mred'" in done.output
    lost = run(log(tmp_path, [{"\x1b[31mred": 1.0}]), "--out", tmp_path / "out")
    assert "\x1b" not in lost.output
