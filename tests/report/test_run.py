"""The folder of a run: both layouts, and what a reader finds of each."""

import json

import pytest
import yaml

from kellet.config.run import Gate
from kellet.errors import DataError, InputError
from kellet.gate.verdict import decide
from kellet.report.run import FILES, file_of, read_run
from tests.helpers.evaluations import evaluation


@pytest.fixture(params=["verbs", "retraining"])
def run(request, tmp_path):
    """The folder of a run with all its files, as the verbs write them or as a retraining publishes them."""
    rows = evaluation(20)
    contents = {
        "gate.json": json.dumps(decide(rows, Gate(resamples=200)).to_dict()),
        "diagnosis.json": '{"hypotheses": []}',
        "params.yaml": yaml.safe_dump({"name": "mine"}),
        "token_kl.json": '{"answers": []}',
        "history.jsonl": '{"iteration": 1, "objective/kl": 2.0, "note": "text"}\n',
        "card.json": '{"pairs": 7}',
    }
    for name, subfolder in FILES.items():
        folder = tmp_path / subfolder if request.param == "verbs" else tmp_path
        folder.mkdir(exist_ok=True)
        if name == "evaluation.parquet":
            rows.to_parquet(folder / name)
        else:
            (folder / name).write_text(contents[name])
    return tmp_path


def test_a_run_reads_the_same_in_both_layouts(run):
    content = read_run(run, answers=True)
    assert content.name == run.name
    assert content.decision["inputs"]["prompts"] == 20
    assert content.diagnosis == {"hypotheses": []}
    assert content.history == [{"iteration": 1.0, "objective/kl": 2.0}]
    assert (content.card, content.params, content.token_kl) == ({"pairs": 7}, {"name": "mine"}, {"answers": []})
    assert len(content.evaluation) == 80


def test_answers_are_read_only_when_asked_for(run):
    file_of(run, "evaluation.parquet").write_text("no parquet")
    assert read_run(run).evaluation is None
    with pytest.raises(DataError, match=r"evaluation\.parquet is not a sound Parquet file"):
        read_run(run, answers=True)


def test_what_a_verb_wrote_stands_before_what_a_retraining_published(tmp_path):
    assert file_of(tmp_path, "card.json") == tmp_path / "reward_model/card.json"
    (tmp_path / "card.json").touch()
    assert file_of(tmp_path, "card.json") == tmp_path / "card.json"
    (tmp_path / "reward_model").mkdir()
    (tmp_path / "reward_model/card.json").touch()
    assert file_of(tmp_path, "card.json") == tmp_path / "reward_model/card.json"


def test_only_the_decision_is_needed(run):
    for name in set(FILES) - {"gate.json"}:
        file_of(run, name).unlink()
    content = read_run(run)
    assert (content.diagnosis, content.history, content.card, content.params) == ({}, (), {}, {})
    file_of(run, "gate.json").unlink()
    with pytest.raises(InputError, match=r"no gate\.json"):
        read_run(run)
