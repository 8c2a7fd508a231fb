"""The command line: exit codes, messages, places of files, and that nothing changes on bad input."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from kellet.cli.main import main
from tests.helpers.command import kellet
from tests.helpers.rows import row, write_jsonl

VERBS = (
    "synthesise",
    "prepare",
    "validate",
    "train-base",
    "train-reward",
    "train-policy",
    "evaluate",
    "judge",
    "gate",
    "gate-power",
    "diagnose",
    "import-logs",
    "follow",
    "report",
    "compare",
    "export",
    "chat",
    "serve",
    "estimate",
    "import-gguf",
)
SMALL = ("--set", "data.validation.min_pairs=10", "--set", "data.split={validation: 0.3, test: 0.3}")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project root with a params.yaml for raw.jsonl."""
    monkeypatch.chdir(tmp_path)
    data = {"name": "small", "source": "files", "files": ["raw.jsonl"]}
    data |= {"validation": {"min_pairs": 10}, "split": {"validation": 0.3, "test": 0.3}}
    Path("params.yaml").write_text(yaml.safe_dump({"name": "run", "data": data}))
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_help_loads_nothing_heavy() -> None:
    heavy = "('torch', 'pandas', 'numpy', 'great_expectations', 'transformers', 'pydantic', 'yaml', 'scipy', 'pyarrow')"
    code = f"import sys, kellet.cli.main; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_program_and_the_module_are_the_same() -> None:
    program = subprocess.run([Path(sys.executable).with_name("kellet"), "--help"], capture_output=True, text=True)
    module = subprocess.run([sys.executable, "-m", "kellet", "--help"], capture_output=True, text=True)
    assert program.returncode == module.returncode == 0
    assert program.stdout.splitlines()[1:] == module.stdout.splitlines()[1:]


def test_every_verb_is_listed_in_order_and_has_help_with_an_example() -> None:
    output = kellet("--help").output
    assert set(main.commands) == {*VERBS, "spot-check", "data", "ledger"}
    assert [output.index(f"\n  {verb} ") for verb in VERBS] == sorted(output.index(f"\n  {verb} ") for verb in VERBS)
    for verb in VERBS:
        text = kellet(verb, "--help").output
        assert f"Example: kellet {verb}" in text
        if verb not in ("compare", "import-gguf"):  # which read finished runs, and a model
            assert "--params" in text
            assert "--set" in text
    for group, verb in (("data", "history"), ("data", "restore"), ("spot-check", "export"), ("spot-check", "import")):
        assert f"Example: kellet {group} {verb}" in kellet(group, verb, "--help").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepar",), "'prepare'"),
        (("prepare", "--parms", "x"), "--params"),
        (("prepare", "--params", "none.yaml"), "cannot read parameters from none.yaml"),
        (("prepare", "--set", "gate.kl_bugdet=8"), "did you mean 'gate.kl_budget'"),
        (("prepare", "--set", "policy.kl.target=0"), "policy.kl.target: Input should be greater than 0, got 0"),
        (("prepare", "--set", "policy.kl.target=-3"), "policy.kl.target: Input should be greater than 0, got -3"),
        (("synthesise",), "data.source is 'files'"),
        (("train-base", "--set", "base_model.path=./no/such"), "base_model.path './no/such' does not exist"),
        (("train-base",), "data/prepared/small/preferences.parquet does not exist; make it with 'kellet prepare'"),
        (("gate",), "runs/run/evaluation/evaluation.parquet does not exist; make it with 'kellet evaluate'"),
        (("gate-power", "--prompts", "many"), "--prompts got 'many'"),
        (("gate-power", "--prompts", "64,0"), "numbers from 1 on"),
        (("gate-power", "--population", "honst"), "no population 'honst'; there are: null; honest"),
        (("report", "--run", "elsewhere"), "elsewhere/gate.json does not exist; make it with 'kellet gate'"),
    ],
)
def test_bad_usage_is_an_error_and_changes_nothing(project: Path, arguments: tuple[str, ...], message: str) -> None:
    before = files(project)
    result = kellet(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(project) == before


def prepared(project: Path) -> Path:
    """data/prepared/small of 40 sound rows."""
    write_jsonl(project / "raw.jsonl", [row(n) for n in range(40)])
    assert kellet("prepare").exit_code == 0
    return project / "data/prepared/small"


def test_prepare_writes_its_default_paths_and_prints_counts(project: Path) -> None:
    write_jsonl(project / "raw.jsonl", [*(row(n) for n in range(40)), row(1, chosen=" ")])
    result = kellet("prepare")
    assert result.exit_code == 0
    assert "41 rows: 40 pairs accepted, 1 quarantined (1 chosen is empty)" in result.output
    written = set(files(project)) - {"params.yaml", "raw.jsonl"}
    data = {f"data/prepared/small/{name}" for name in ("preferences.parquet", "quarantine.parquet", "summary.json")}
    assert written == data | {f"artifacts/data_docs/small/{name}.html" for name in ("index", "pairs", "rows", "table")}


CSV = b"prompt,chosen,rejected\n" + b"".join(b"p%d,c%d,r%d\n" % (n, n, n) for n in range(40))
LONGER = [row(n, chosen=f"a b c {n}", rejected="d e") for n in range(40)]
BAD_RAW = {
    "missing column": ("raw.jsonl", b'{"prompt": "p", "chosen": "c"}\n', "column 'rejected' is missing"),
    "empty file": ("raw.jsonl", b"", "raw.jsonl is empty"),
    "truncated gzip": ("raw.jsonl.gz", bytes.fromhex("1f8b0800000000000203ab562a28ca"), "truncated gzip"),
    "wrong encoding": ("raw.jsonl", '{"prompt": "é"}'.encode("latin-1"), "is not UTF-8: byte 0xe9 on line 1"),
    "stray quote": ("raw.csv", CSV.replace(b",c5,", b',"c5,'), "the row that starts on line 7 cannot be read"),
    "stray quotes": ("raw.csv", CSV.replace(b",c5,", b',"c5,').replace(b"c9", b'c9"'), "the row on lines 7 to 11"),
    "0 rows": ("raw.csv", b"prompt,chosen,rejected\n", "has 0 rows"),
    "one label": ("raw.jsonl", "".join(json.dumps(each) + "\n" for each in LONGER).encode(), "expect_labels_to_vary"),
    "one prompt": (
        "raw.jsonl",
        "".join(json.dumps(row(n, prompt="p")) + "\n" for n in range(40)).encode(),
        "expect_column_unique_value_count_to_be_between: wanted two prompts or more, got 1",
    ),
    "no such file": ("other.jsonl", b"x", "raw.jsonl does not exist"),
    "folder": ("raw.jsonl/x", b"x", "raw.jsonl is a folder"),
}


@pytest.mark.parametrize("name", BAD_RAW)
def test_bad_raw_files_are_errors_and_the_old_data_stay(project: Path, name: str) -> None:
    file, content, message = BAD_RAW[name]
    old = files(prepared(project))
    (project / "raw.jsonl").unlink()
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_bytes(content)
    given = file if file.startswith("raw.") and "/" not in file else "raw.jsonl"
    result = kellet("prepare", "--set", f"data.files=[{given}]")
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(project / "data/prepared/small") == old
    assert [path.name for path in (project / "data/prepared").iterdir()] == ["small"]


def test_a_path_that_cannot_be_written_is_an_error(project: Path) -> None:
    old = files(prepared(project))
    for option in ("--out", "--docs"):
        result = kellet("prepare", option, "/proc/nothing/here")
        assert result.exit_code == 2
        assert "cannot write /proc/nothing/here" in result.stderr
    assert files(project / "data/prepared/small") == old


def test_a_folder_with_other_things_is_never_replaced(project: Path) -> None:
    prepared(project)
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    for option in ("--out", "--docs"):
        result = kellet("prepare", option, "mine")
        assert result.exit_code == 2
        assert "mine is in use" in result.stderr
    assert files(Path("mine")) == {"letter.txt": b"dear"}


def test_validate_explains_a_foreign_file_without_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = write_jsonl(Path("good.jsonl"), [*(row(n) for n in range(40)), row(3, rejected="")])
    before = files(tmp_path)
    result = kellet("validate", str(good), "--json", *SMALL)
    findings = json.loads(result.stdout)
    assert (result.exit_code, findings["usable"], findings["summary"]["accepted"]) == (0, True, 40)
    assert files(tmp_path) == before
    result = kellet("validate", str(good))
    assert result.exit_code == 2
    assert "FAIL expect_table_row_count_to_be_between: wanted at least 200 pairs" in result.stdout
    assert "rejected is empty (first: good.jsonl line 41)" in result.stderr
    Path("bad.csv").write_text("question;good;bad\n1;2;3\n")
    result = kellet("validate", "bad.csv", "--json")
    assert result.exit_code == 2
    assert "found bad, good, question" in json.loads(result.stdout)["error"]


def evaluation(path: Path, gain: float) -> Path:
    """60 prompts, two answers of each system; the candidate gains ``gain`` at the same lengths and 1 nat."""
    rows = [
        {
            "prompt_id": f"p{prompt}",
            "prompt": f"Question {prompt}?",
            "system": system,
            "sample": sample,
            "response": f"Answer {prompt} of {system}, take {sample}: " + "word " * (prompt % 7 + sample),
            "reward": 0.1 * ((prompt * 7 + sample * 3) % 5) + (gain if system == "candidate" else 0.0),
            "length_tokens": 20 + (prompt * 3 + sample * 5) % 11,
            "kl_nats": 1.0 + 0.01 * (prompt % 5) if system == "candidate" else 0.0,
            "truncated": False,
        }
        for prompt in range(60)
        for system in ("candidate", "reference")
        for sample in (0, 1)
    ]
    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def test_gate_judges_any_evaluation_file_without_params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (evaluation(Path("good.parquet"), 1.0), evaluation(Path("good.csv"), 1.0)):
        result = kellet("gate", str(path), "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["verdict"] == "promote"
    result = kellet("gate", "good.csv", "--set", "gate.kl_budget=0.5")
    assert result.exit_code == 3
    assert result.stderr.startswith("not promoted: block: ")
    assert kellet("gate", str(evaluation(Path("bad.csv"), -1.0))).exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "good.csv", "good.parquet"]
    Path("worse.csv").write_text("a,b\n1,2\n")
    assert kellet("gate", "worse.csv").exit_code == 2


def test_gate_and_report_chain_by_the_run_folder(project: Path) -> None:
    prepared(project)
    run = Path("runs/run")
    (run / "evaluation").mkdir(parents=True)
    (run / "policy").mkdir()
    (run / "policy/history.jsonl").write_text('{"iteration": 1, "objective/reward": 0.5, "objective/kl": 1.0}\n')
    evaluation(run / "evaluation/evaluation.parquet", -1.0)
    assert kellet("gate").exit_code == 3
    assert json.loads((run / "gate.json").read_text())["verdict"] == "block"
    result = kellet("report")
    assert result.exit_code == 0
    assert "<html" in (run / "report.html").read_text()


def test_gate_reads_a_folder_of_the_flow_and_leaves_its_verdict(project: Path) -> None:
    run = Path("runs/run")
    run.mkdir(parents=True)
    evaluation(run / "evaluation.parquet", 1.0)
    (run / "card.json").write_text(json.dumps({"lift": {"value": 0.1, "interval": [0.05, 0.2], "prompts": 60}}))
    (run / "gate.json").write_text("the verdict that the registry knows")
    assert kellet("gate").exit_code == 0
    assert (run / "gate.json").read_text() == "the verdict that the registry knows"
    assert kellet("gate", "--out", "again.json").exit_code == 0
    decision = json.loads(Path("again.json").read_text())
    lift = next(item for item in decision["criteria"] if item["name"] == "reward_trust")
    assert (decision["verdict"], lift["value"]) == ("promote", 0.1)


def test_report_reads_a_folder_of_the_flow_with_its_own_parameters(project: Path) -> None:
    """The flow leaves everything in one folder; its params.yaml tells of this run, the project's of the next."""
    for name, seed in (("ours", 7), ("theirs", 8)):
        folder = Path("runs", name)
        folder.mkdir(parents=True)
        evaluation(folder / "evaluation.parquet", 1.0)
        assert kellet("gate", str(folder / "evaluation.parquet"), "--out", str(folder / "gate.json")).exit_code == 0
        (folder / "params.yaml").write_text(f"name: {name}\nseed: {seed}\ndata: {{name: {name}}}\n")
    Path("runs/ours/history.jsonl").write_text('{"iteration": 1, "objective/kl": 1.0}\n{"iteration": 2}\n')
    result = kellet("report", "--run", "runs/ours", "--champion", "runs/theirs", "--out", "page.html")
    assert result.exit_code == 0, result.output
    page = Path("page.html").read_text()
    assert "Retraining ours, compared with champion theirs" in page
    assert re.search(r"seed</th><td[^>]*>8</td><td[^>]*>7</td>", page)
    assert "KL from the reference over iterations" in page
    assert kellet("report", "--run", "runs/ours", "--champion", "runs/nobody").exit_code == 2


def test_diagnose_reads_any_of_its_files_and_writes_only_beside_a_run(project: Path) -> None:
    history = "".join(
        json.dumps({"iteration": n, "objective/kl": 4.0, "objective/kl_k1": 2.0}) + "\n" for n in range(1, 13)
    )
    Path("history.jsonl").write_text(history)
    before = files(project)
    diagnosis = json.loads(kellet("diagnose", "--history", "history.jsonl", "--json").stdout)
    assert {row["id"]: row["verdict"] for row in diagnosis["hypotheses"]}["C5"] == "supported"
    assert files(project) == before
    run = Path("runs/run")
    (run / "policy").mkdir(parents=True)
    (run / "policy/history.jsonl").write_text(history)
    evaluation(run / "evaluation.parquet", 1.0)
    result = kellet("diagnose")
    assert result.exit_code == 0
    assert "C5  yes" in result.output
    assert json.loads((run / "diagnosis.json").read_text())["inputs"]["evaluation_rows"] == 240


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "runs/run has no evaluation and no history"),
        (("--history", "none.jsonl"), "none.jsonl does not exist"),
        (("params.yaml",), "params.yaml: unknown kind of file; give one of"),
        (("--history", "params.yaml"), "line 1 is not JSON"),
    ],
)
def test_diagnose_names_what_it_cannot_read(project: Path, arguments: tuple[str, ...], message: str) -> None:
    result = kellet("diagnose", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_unforeseen_failure_keeps_its_traceback_and_exits_with_1(project: Path) -> None:
    code = "import kellet.config.file as c, kellet.cli.main as m\nc.load_config = lambda *a: 1 / 0\nm.main(['prepare'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert run.returncode == 1
    assert "ZeroDivisionError" in run.stderr


def test_validate_reads_mapped_columns_and_refuses_a_wrong_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    rows = [{names[key]: value for key, value in row(n).items()} for n in range(40)]
    write_jsonl(tmp_path / "x.jsonl", rows)
    mapped = [part for ours, theirs in names.items() for part in ("--map", f"{ours}={theirs}")]
    result = kellet("validate", "x.jsonl", *mapped, *SMALL)
    assert result.exit_code == 0, result.output
    assert "x.jsonl: read prompt from 'q', chosen from 'good', rejected from 'bad'" in result.output
    assert kellet("validate", "x.jsonl", *SMALL).exit_code == 2
    for wrong in ("q", "promt=q", "prompt="):
        result = kellet("validate", "x.jsonl", "--map", wrong)
        assert result.exit_code == 2
        assert f"--map got {wrong!r}" in result.output


def test_the_data_verb_says_that_it_needs_a_project(project: Path) -> None:
    result = kellet("data", "history")
    assert result.exit_code == 2
    assert "is no project of Kellet" in result.output


def test_ctrl_c_is_one_line_and_130(tmp_path, monkeypatch):
    """As a shell counts it; the traceback of Python's own KeyboardInterrupt says nothing to a user."""
    from kellet.data import world

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(world, "write_world", interrupted)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}")
    result = CliRunner().invoke(main, ["synthesise"])
    assert result.exit_code == 130
    assert result.stderr.startswith("stopped by Ctrl-C")
    assert result.stderr.count("\n") == 1
