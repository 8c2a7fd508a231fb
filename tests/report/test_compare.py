"""``kellet compare``: several run folders on one page, and the errors for a folder that is no run."""

import json

import pytest
import yaml
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.config.judgement import Gate
from kellet.config.run import Config
from kellet.errors import DataError, InputError
from kellet.gate.verdict import decide
from kellet.report.compare import differing, notes
from kellet.report.run import read_run, read_runs
from tests.helpers.evaluations import evaluation
from tests.helpers.page import Page, only_its_own_style

NASTY = "<img src=x onerror=alert(1)>"


def folder(path, gain=0.5, seed=0, beta=0.05, verbs=False, bare=False):
    """A run as a retraining publishes it, or as the verbs write it; ``bare``: only the decision."""
    path.mkdir(parents=True)
    decision = decide(evaluation(40, gain=gain, seed=seed), Gate(resamples=200), {"data_md5": f"md5-{seed}"}).to_dict()
    (path / "gate.json").write_text(json.dumps(decision))
    if bare:
        return path
    config = Config.model_validate({"name": path.name, "policy": {"kl": {"init_coef": beta}}}).model_dump(mode="json")
    config["tracking"]["uri"] = f"postgresql://kellet:secret-{seed}@db/mlflow"
    (path / "params.yaml").write_text(yaml.safe_dump(config))
    steps = [{"iteration": n, "objective/kl": float(n), "objective/reward": gain} for n in range(1, 13)]
    history = "".join(json.dumps(step) + "\n" for step in steps)
    card = {"length_control": "none", "lift": {"value": 0.05, "interval": [0.01, None], "prompts": 9}}
    hypotheses = [{"id": "A2", "statement": f"Pays for length {NASTY}", "verdict": "supported"}]
    (path / "diagnosis.json").write_text(json.dumps({"hypotheses": hypotheses}))
    places = ("policy/history.jsonl", "reward_model/card.json") if verbs else ("history.jsonl", "card.json")
    for place, text in zip(places, (history, json.dumps(card)), strict=True):
        (path / place).parent.mkdir(exist_ok=True)
        (path / place).write_text(text)
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    runs = [
        folder(root / "old"),
        folder(root / "new", gain=-0.5, seed=1, beta=0.2, verbs=True),
        folder(root / "x", bare=True),
    ]
    done = CliRunner().invoke(main, ["compare", *map(str, runs), "--out", str(root / "page.html")])
    assert done.exit_code == 0, done.output
    return root, done.output, (root / "page.html").read_text()


def test_the_terminal_names_verdicts_and_figures(compared):
    root, output, _ = compared
    decisions = [json.loads((root / name / "gate.json").read_text()) for name in ("old", "new", "x")]
    lines = output.splitlines()
    assert lines[0].split() == ["old", "new", "x"]
    assert lines[1].split() == ["verdict", *(decision["verdict"] for decision in decisions)]
    gain = decisions[1]["criteria"][0]["checks"][0]["value"]
    assert f"{gain:.2f} [" in output
    assert "new: not passed: reward_gain" in output


def test_the_page_shows_all_of_it_and_asks_for_nothing(compared):
    _, _, text = compared
    parsed = Page(text)
    words = " ".join(parsed.words)
    assert "img" not in parsed.tags
    assert NASTY in words
    assert only_its_own_style(text, parsed)
    assert all(value.startswith("#") for name, value in parsed.attributes if name in ("href", "src"))
    ids = {value for name, value in parsed.attributes if name == "id"}
    assert {value[1:] for name, value in parsed.attributes if name == "href"} <= ids
    for part in (
        "policy.kl.init_coef",
        "0.05",
        "0.2",
        "No params.yaml: x",
        "A2 Pays for length",
        "lift over",
        "courtesy",
    ):
        assert part in words
    assert "policy.kl.target" not in words  # the same in both
    assert "secret" not in text
    assert text.count('path class="curve run-1"') == 2  # reward and KL of the run that keeps them below policy/


def test_criteria_of_all_runs_share_an_axis(compared):
    _, _, text = compared
    rows = text[text.index('id="criteria"') :]
    groups = rows[: rows.index("</table>")].split("<tbody")[1:]
    assert len(groups) > 8
    for group in groups:
        thresholds = {part.split('"')[0] for part in group.split('class="threshold" x1="')[1:]}
        assert len(thresholds) == 1, group
        assert group.count("<svg") == 3


def test_the_page_notes_what_limits_a_comparison(compared):
    root, _, _ = compared
    different = " ".join(notes(read_runs([root / "old", root / "new"])))
    assert "md5-0, md5-1" in different
    assert "not paired" in different
    same = " ".join(notes(read_runs([root / "old", folder(root / "again" / "old")])))
    assert "different data" not in same


def test_runs_of_one_name_are_told_apart(compared):
    root, _, _ = compared
    other = folder(root / "other" / "old", bare=True)
    assert [run.name for run in read_runs([root / "old", other])] == [str(root / "old"), str(other)]


def test_only_what_differs_is_listed():
    rows = differing([{"name": "a", "p": {"x": 1, "y": [1]}, "q": 2}, {"name": "b", "p": {"x": 1, "y": [2]}}])
    assert rows == [("p.y", ["[1]", "[2]"]), ("q", ["2", "–"])]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    good = folder(tmp_path / "good", bare=True)
    for path, words in ((tmp_path / "none", "does not exist"), (good / "gate.json", "is a file")):
        with pytest.raises(InputError, match=words):
            read_run(path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").touch()
    with pytest.raises(InputError, match=r"no gate.json \(it holds rows.csv\)"):
        read_run(tmp_path / "data")
    with pytest.raises(InputError, match="got 1 run to compare"):
        read_runs([good, tmp_path / "data" / ".." / "good"])
    (good / "params.yaml").write_text("- 1")
    with pytest.raises(DataError, match="holds a list"):
        read_run(good)
    (good / "gate.json").write_text('{"verdict": "block"}')
    with pytest.raises(DataError, match="has no headline, criteria"):
        read_run(good)
    (good / "gate.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        read_run(good)
    done = CliRunner().invoke(main, ["compare", str(good), str(tmp_path)])
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
