"""What the stages are given of a programme: the look that the gate decides at, the rivals, the prompts of a look."""

import json
from pathlib import Path

import pytest

from adapters import artefacts
from adapters.artefacts import Artefact
from adapters.dvc import Dataset
from kellet.config.run import Config
from kellet.evaluation import evaluate as evaluation_stage
from kellet.gate.programme import Programme
from tasks import stages
from tests.helpers.evaluations import evaluation

CONFIG = Config.model_validate({"gate": {"resamples": 200}})


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setattr(artefacts, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(artefacts, "LOCKS", tmp_path / "locks")


def test_the_gate_decides_at_the_level_of_the_look_and_keeps_a_verdict_for_each(tmp_path):
    (tmp_path / "evaluation").mkdir()
    evaluation(64).to_parquet(tmp_path / "evaluation/evaluation.parquet", index=False)
    card = {"lift": {"value": 0.1, "interval": [0.05, 0.15], "prompts": 90}}
    (tmp_path / "evaluation/card.json").write_text(json.dumps(card))
    given = Artefact(stage="evaluation", path=tmp_path / "evaluation", hash="e")
    first = Programme().next_look("a", 128, ["p"])
    looks = [None, first, first.model_copy(update={"number": 2, "level": 0.007})]
    made = [stages.decide.fn(CONFIG, given, given, {}, look) for look in looks]
    assert len({item.path for item in made}) == 3
    decisions = [json.loads((item.path / "gate.json").read_text()) for item in made]
    assert [decision["config"]["alpha"] for decision in decisions] == [0.05, first.level, 0.007]
    assert [decision["programme"].get("look") for decision in decisions] == [None, 1, 2]
    assert stages.decide.fn(CONFIG, given, given, {}, first).path == made[1].path


def test_rivals_and_look_reach_the_evaluation_and_its_key(tmp_path, monkeypatch):
    calls = []

    def fake(_config, _preferences, models, out, _progress, look):
        calls.append((models.champion, models.anchor, models.judge, look))
        out.mkdir(parents=True)

    monkeypatch.setattr(evaluation_stage, "evaluate", fake)
    data = Dataset(name="d", folder=tmp_path, hash="d", summary={})
    part, champion, anchor = (
        Artefact(stage=name, path=Path(name), hash=name) for name in ("part", "champion", "anchor")
    )
    rivals = [{}, {"champion": champion}, {"champion": champion, "anchor": anchor}]
    made = [stages.evaluate.fn(CONFIG, data, part, part, part, given, part) for given in rivals]
    made += [stages.evaluate.fn(CONFIG, data, part, part, part, rivals[2], part, look=look) for look in (1, 2)]
    assert len({item.path for item in made}) == 5
    assert calls == [
        (None, None, None, 1),
        (Path("champion"), None, None, 1),
        (Path("champion"), Path("anchor"), None, 1),
        (Path("champion"), Path("anchor"), None, 1),
        (Path("champion"), Path("anchor"), None, 2),
    ]
