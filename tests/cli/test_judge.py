"""`kellet judge` from the command line: what it says, what it costs, and that a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.command import kellet
from tests.helpers.judge_server import JudgeServer, biased, completion
from tests.helpers.judged_pairs import rows_of
from tests.helpers.project import ROOT

MIXED = [(15, 2, 5), (15, -2, -5), (20, 2, -5), (20, -2, 5), (15, 0, 5), (15, 0, -5)]
SECRET = "sk-very-secret-0123456789"  # noqa: S105


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One hundred prompts, of which people judged those with even numbers."""
    monkeypatch.chdir(tmp_path)
    rows = rows_of(MIXED, kl_nats=1.0)
    people = rows["prompt_id"].str[1:].astype(int) % 2 == 0
    rows.assign(judge_human=rows["judge_human"].where(people)).to_parquet("e.parquet", index=False)
    return "e.parquet"


def judge(server: JudgeServer, evaluation: str, *options: str):
    return kellet("judge", evaluation, "--endpoint", server.endpoint, "--model", "a-judge", *options)


def test_it_says_what_the_verdicts_are_worth_and_the_gate_reads_the_column(evaluation: str) -> None:
    with JudgeServer(biased(first=1, longer=1.5)) as server:
        done = judge(server, evaluation, "--price-prompt", "2", "--price-answer", "8")
        tokens = [sum(len(message["content"].split()) for message in body["messages"]) for _, body in server.asked]
    assert done.exit_code == 0, done.output
    for said in (
        "100 of 100 pairs have a verdict in both orders",
        "the verdict turned with the order in 40.0% [",
        "the answer that stood first won 70.0% [",
        "the longer answer won 80.0% [",
        "being the longer one is worth +50.0 [",
        "win rate of the candidate over the reference by judge_model: 50.0% [",
        "helped by judge_model: ",
        "judge_human judged 50 of 100 prompts; with the judgements of judge_model",
        f"this time: 200 replies, {sum(tokens):,} tokens asked and 1,000 answered, "
        f"{(2 * sum(tokens) + 8 * 1000) / 1e6:.4g} at the given prices",
        "next: kellet gate e.judged.parquet --set gate.model_judge=judge_model",
    ):
        assert said in done.output, said
    assert "judge: 200/200" in done.stderr
    found = json.loads(kellet("gate", "e.judged.parquet", "--json", "--set", "gate.model_judge=judge_model").stdout)
    criterion = next(item for item in found["criteria"] if item["name"] == "independent_judge")
    assert "with the judgements of judge_model" in criterion["why"]
    assert found["judges"]["judge_model"]["win_rate"]["value"] == 0.5


def test_json_has_every_figure(evaluation: str) -> None:
    with JudgeServer(biased(first=1, longer=1.5)) as server:
        found = json.loads(judge(server, evaluation, "--json").stdout)
    assert found["counts"] == {
        "pairs": 100,
        "equal": 0,
        "judged": 100,
        "questions": 200,
        "asked_again": 0,
        "without_verdict": 0,
        "cut": 0,
        "refused": 0,
    }
    assert found["bias"]["order_dependent"]["value"] == pytest.approx(0.4)
    assert found["cost"]["new"]["replies"] == 200
    assert found["cost"]["new"]["price"] is None
    assert found["win_rate_by_people"]["prompts"] == 50
    assert (found["models"], found["column"], found["out"]) == (["a-judge"], "judge_model", "e.judged.parquet")


def test_again_it_asks_for_nothing_and_writes_the_same(evaluation: str) -> None:
    with JudgeServer(biased()) as server:
        assert judge(server, evaluation).exit_code == 0
        first = Path("e.judged.parquet").read_bytes()
        done = judge(server, evaluation)
        assert "this time: 0 replies, 0 tokens asked" in done.output
        assert "the column as a whole: 200 replies" in done.output
        assert len(server.asked) == 200
    assert Path("e.judged.parquet").read_bytes() == first


def test_in_place_and_a_second_judge_beside_the_first(evaluation: str) -> None:
    with JudgeServer(biased()) as server:
        assert judge(server, evaluation, "--in-place").exit_code == 0
        other = kellet(
            *("judge", evaluation, "--endpoint", server.endpoint, "--model", "another", "--column", "judge_second"),
            "--in-place",
        )
        assert other.exit_code == 0, other.output
        assert {"judge_human", "judge_model", "judge_second"} <= set(pd.read_parquet(evaluation).columns)
        mixed = kellet("judge", evaluation, "--endpoint", server.endpoint, "--model", "third", "--in-place")
        assert mixed.exit_code == 0  # the same verdicts: nothing is overwritten
    with JudgeServer(biased(longer=9)) as server:
        before = Path(evaluation).read_bytes()
        refused = kellet("judge", evaluation, "--endpoint", server.endpoint, "--model", "fourth", "--in-place")
        assert refused.exit_code == 2
        assert "name another --column" in refused.stderr
        assert Path(evaluation).read_bytes() == before


def test_without_people_nothing_is_said_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows_of(MIXED, people=False).to_csv("e.csv", index=False)
    with JudgeServer(biased()) as server:
        done = judge(server, "e.csv", "--out", "judged.csv")
    assert done.exit_code == 0, done.output
    assert "helped by" not in done.output
    assert "agreement" not in done.output
    assert "gate.judges_for_information=[judge_model]" in done.output
    assert kellet("gate", "judged.csv", "--set", "gate.judges_for_information=[judge_model]").exit_code in (0, 3)


def test_what_has_no_verdict_is_counted_and_told(evaluation: str) -> None:
    def sometimes(prompt: str, first: str, second: str) -> str:
        return "Hm." if prompt.endswith("7?") else biased()(prompt, first, second)

    with JudgeServer(sometimes) as server:
        done = judge(server, evaluation)
    assert "90 of 100 pairs have a verdict in both orders" in done.output
    assert "20 of 200 questions were asked again for a verdict" in done.output
    assert "20 of 200 questions got no verdict that can be read; their pairs stay empty" in done.output
    judged = pd.read_parquet("e.judged.parquet")
    empty = judged["prompt"].str.endswith("7?")
    assert judged.loc[empty, "judge_model"].isna().all()
    assert judged.loc[~empty, "judge_model"].notna().all()


def test_a_judge_that_never_says_is_an_error_and_writes_nothing(evaluation: str) -> None:
    def change(_number, body, _told):
        return 200, {}, completion("Well, \x1b[31mboth", body, cut=True)

    with JudgeServer(biased(), change) as server:
        done = judge(server, evaluation, "--prompts", "2")
    assert done.exit_code == 2
    assert "no pair has a verdict" in done.stderr
    assert "max_tokens" in done.stderr
    assert "\x1b[31m" not in done.output
    assert sorted(path.name for path in Path().iterdir()) == ["e.parquet", "judge_cache"]


def test_models_that_change_under_one_name_are_told(evaluation: str) -> None:
    def change(number, _body, told):
        return 200, {}, {**told, "model": f"a-judge-2026-0{1 + number % 2}"}

    with JudgeServer(biased(), change) as server:
        done = judge(server, evaluation)
    assert "the server answered as a-judge-2026-01, a-judge-2026-02: these verdicts are not of one judge" in done.output


def test_the_key_is_in_no_file_and_in_nothing_that_is_said(evaluation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", SECRET)
    with JudgeServer(lambda *_: f"{SECRET}\nVERDICT: A", key=SECRET) as server:
        done = judge(server, evaluation, "--key-variable", "TEAM_KEY", "--prompts", "3")
        assert done.exit_code == 0, done.output
        monkeypatch.setenv("TEAM_KEY", SECRET[:-1])
        wrong = judge(server, evaluation, "--key-variable", "TEAM_KEY", "--prompts", "9")
    assert wrong.exit_code == 2
    assert "answers 401" in wrong.stderr
    for text in (done.output, wrong.output, *(file.read_bytes().decode(errors="replace") for file in written())):
        assert SECRET[:-1] not in text


def written() -> list[Path]:
    return [path for path in Path().rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--body", "{"), "--body got '{', which is not JSON"),
        (("--body", "[1]"), "it takes a JSON object"),
        (("--body", '{"model": "x", "n": 2}'), "--body names model, n"),
        (("--column", "judge_human"), "people's verdicts"),
        (("--rubric", "none.md"), "none.md does not exist"),
        (("--key-variable", "NO_SUCH_KEY"), "NO_SUCH_KEY, which is not set"),
        (("--out", "e.txt"), "written as .parquet or .csv"),
        (("--set", "gate.alhpa=1"), "did you mean 'gate.alpha'"),
        (("--concurrency", "0"), "--concurrency"),
        (("--timeout", "0"), "--timeout"),
    ],
)
def test_bad_usage_asks_nobody_and_writes_nothing(evaluation: str, options: tuple[str, ...], message: str) -> None:
    with JudgeServer(biased()) as server:
        done = judge(server, evaluation, *options)
        assert server.asked == []
    assert done.exit_code == 2
    assert message in done.stderr
    assert [path.name for path in Path().iterdir()] == ["e.parquet"]


def test_an_output_that_would_be_lost_is_refused_before_anybody_is_asked(evaluation: str) -> None:
    rows_of([(3, 1, 0)]).to_parquet("e.judged.parquet")
    with JudgeServer(biased()) as server:
        done = judge(server, evaluation)
        assert server.asked == []
    assert done.exit_code == 2
    assert "another evaluation" in done.stderr


def started(server: JudgeServer, evaluation: str, *options: str) -> "subprocess.Popen[str]":
    """The same in a process of its own."""
    command = [sys.executable, "-m", "kellet", "judge", evaluation, "--endpoint", server.endpoint, "--model", "a-judge"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def asked_twice(server: JudgeServer) -> int:
    counts = Counter(json.dumps(body, sort_keys=True) for _, body in server.asked)
    return sum(count - 1 for count in counts.values())


@pytest.mark.parametrize(
    ("number", "code", "at_most_twice"),
    [
        (signal.SIGKILL, -signal.SIGKILL, 4),  # what was under way when it died
        (signal.SIGINT, 130, 0),
        (signal.SIGTERM, -signal.SIGTERM, 0),
    ],
)
def test_a_judging_that_is_killed_goes_on_and_asks_nothing_twice(
    evaluation: str, number: int, code: int, at_most_twice: int
) -> None:
    with JudgeServer(biased(first=1, longer=1.5), pause=0.03) as server:
        process = started(server, evaluation)
        while len(server.asked) < 40:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert len(server.asked) < 150
        assert not Path("e.judged.parquet").exists()
        server.pause = 0
        done = judge(server, evaluation)
        assert done.exit_code == 0, done.output
        assert asked_twice(server) <= at_most_twice
        resumed = Path("e.judged.parquet").read_bytes()
        whole = judge(server, evaluation, "--cache", "other.jsonl", "--out", "whole.parquet")
        assert whole.exit_code == 0
    assert Path("whole.parquet").read_bytes() == resumed
