"""``kellet gate`` for teams who train elsewhere: forms of the decision, what is told of a file, the documented jobs."""

import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.helpers.command import kellet
from tests.helpers.evaluations import evaluation
from tests.helpers.project import ROOT

FORMS = ("text", "json", "markdown", "github", "junit")
FAST = ("--set", "gate.resamples=200")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    evaluation(120, gain=1.0).to_csv("good.csv", index=False)
    evaluation(120, gain=1.0, longer=20.0).to_parquet("bad.parquet")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("form", FORMS)
def test_the_exit_code_is_that_of_the_verdict_in_every_form(form):
    good, bad = (kellet("gate", file, "--format", form, *FAST) for file in ("good.csv", "bad.parquet"))
    assert (good.exit_code, bad.exit_code) == (0, 3)
    assert "length_inflation" in bad.stdout.replace("\\", "")
    assert bad.stderr.startswith("not promoted: block: ")
    Path("broken.csv").write_text("a,b\n1,2\n")
    broken = kellet("gate", "broken.csv", "--format", form)
    assert broken.exit_code == 2
    assert broken.stdout == ""
    assert broken.stderr.startswith("error: broken.csv: ")


@pytest.mark.usefixtures("files")
def test_json_is_a_form_and_has_the_account():
    shown = kellet("gate", "good.csv", "--json", *FAST).stdout
    assert shown == kellet("gate", "good.csv", "--format", "json", *FAST).stdout
    assert [entry["name"] for entry in json.loads(shown)["account"]] == list(evaluation(1).columns)
    result = kellet("gate", "good.csv", "--json", "--format", "junit")
    assert result.exit_code == 2
    assert "--json is --format json, and --format junit was given too" in result.stderr


@pytest.mark.usefixtures("files")
def test_a_summary_of_the_step_is_appended(monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("before\n")
    kellet("gate", "bad.parquet", "--format", "text", *FAST)
    assert Path("summary.md").read_text() == "before\n"
    kellet("gate", "bad.parquet", "--format", "github", *FAST)
    comment = kellet("gate", "bad.parquet", "--format", "markdown", *FAST).stdout
    assert Path("summary.md").read_text() == "before\n" + comment


@pytest.mark.usefixtures("files")
def test_junit_parses_and_counts_the_criteria_of_gate_json():
    (suite,) = ET.fromstring(kellet("gate", "bad.parquet", "--format", "junit", *FAST).stdout)  # noqa: S314 -- our own
    criteria = json.loads(kellet("gate", "bad.parquet", "--json", *FAST).stdout)["criteria"]
    assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(criteria)
    assert int(suite.get("failures")) == sum(item["counted"] and item["passed"] is False for item in criteria)


def test_what_is_left_out_of_a_file_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = evaluation(12).assign(**{"temperature": 1.0, "##[error]x": 2, "note": ["::error::a\nb"] * 48})
    odd.rename(columns={"reward": "Reward "}).to_csv("odd.csv", index=False)
    result = kellet("gate", "odd.csv", "--format", "github", *FAST)
    assert "warning: left out: 'temperature', '## [error]x', 'note': no column of an evaluation" in result.stderr
    assert "warning: column 'Reward ' is read as 'reward'" in result.stderr
    for form in FORMS:
        assert "##[" not in kellet("gate", "odd.csv", "--format", form, *FAST).output
    shown = json.loads(kellet("gate", "odd.csv", "--json", *FAST).stdout)
    assert "##[error]x" in {entry["name"] for entry in shown["account"]}
    odd.assign(reward="##[add-mask]a\n::stop-commands::x").to_csv("odd.csv", index=False)
    for form in FORMS:
        result = kellet("gate", "odd.csv", "--format", form)
        assert result.exit_code == 2
        assert "line 2, column 'reward'" in result.stderr
        assert "##[" not in result.output
        assert not [line for line in result.output.splitlines() if line.lstrip().startswith("::")]


@pytest.mark.parametrize("form", FORMS)
def test_the_name_of_a_judge_is_no_command_in_any_form(tmp_path, monkeypatch, form):
    """GitHub's runner takes ##[error] anywhere in a line for a command (actions/runner, ActionCommand.cs)."""
    monkeypatch.chdir(tmp_path)
    name = "judge_##[error]::error::x"
    evaluation(12, judged=12).rename(columns={"judge_human": name}).to_csv("e.csv", index=False)
    result = kellet("gate", "e.csv", "--format", form, "--set", f"gate.judge={json.dumps(name)}", *FAST)
    assert result.exit_code == 3
    assert result.stdout
    assert "##[" not in result.output


# ---- the jobs that the documentation shows

PAGE = (ROOT / "docs/use/elsewhere.md").read_text(encoding="utf-8")
JOBS = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def scripts():
    """The shell of every step of the jobs."""
    github, gitlab = JOBS
    (job,) = github["jobs"].values()
    return [step["run"] for step in job["steps"] if "run" in step], gitlab["gate"]["script"]


def test_the_documented_jobs_are_sound():
    github, gitlab = JOBS
    # YAML 1.1 reads the key on as true; GitHub takes it as on.
    assert github[True] == "pull_request"
    assert github["permissions"]["pull-requests"] == "write"
    assert gitlab["gate"]["artifacts"]["reports"]["junit"] == "kellet.xml"
    assert gitlab["gate"]["artifacts"]["when"] == "always"  # the gate exits with 3, and its report is still wanted


@pytest.mark.usefixtures("files")
def test_the_commands_of_the_documented_jobs_run():
    run, script = scripts()
    lines = [line.strip() for text in (*run, *script) for line in text.splitlines()]
    commands = [re.split(r" (?:>|\|\|) ", line)[0] for line in lines if line.startswith("kellet ")]
    assert [shlex.split(command)[1:3] for command in commands] == [["gate", "evaluation.csv"]] * 2
    assert [re.search(r"--format (\w+)", command)[1] for command in commands] == ["github", "junit"]
    evaluation(120, gain=1.0).to_csv("evaluation.csv", index=False)
    for command in commands:
        result = kellet(*shlex.split(command)[1:])
        assert result.exit_code in (0, 3), result.stderr


@pytest.mark.parametrize("verb", [("gate", *FAST), ("diagnose",)])
def test_every_verb_that_reads_an_evaluation_tells_what_it_leaves_out(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    rows = evaluation(12).assign(gpt4_score=1.0)
    rows.to_csv("e.csv", index=False)
    wanted = "warning: left out: 'gpt4_score': no column of an evaluation; a judge's scores are read from columns named"
    assert wanted in kellet(verb[0], "e.csv", *verb[1:]).stderr
    rows.assign(llm_judge=1.0).to_csv("e.csv", index=False)
    result = kellet(verb[0], "e.csv", *verb[1:])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "column 'llm_judge' looks like a judge's scores" in result.stderr


def test_words_counted_for_tokens_are_told_wherever_the_evaluation_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"q{n}", "response": "word " * (n % 9 + 1), "reward": n / 30} for n in range(30)]
    for name in ("c", "r"):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kellet("import-logs", "--candidate", "c.jsonl", "--reference", "r.jsonl", "--out", "out")
    for verb in (("gate", *FAST), ("diagnose",)):
        told = kellet(verb[0], "out/evaluation.parquet", *verb[1:]).stderr
        assert "the lengths of the candidate are the number of words of each response" in told
