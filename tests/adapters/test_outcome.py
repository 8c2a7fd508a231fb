"""How a retraining and a comparison of arms end: exit codes, and a reward model without lift."""

import json

import pytest

from adapters.artefacts import Artefact
from adapters.outcome import RemediesOutcome, require_lift, set_aside
from kellet.config.run import Config
from kellet.errors import NoLift
from kellet.remedies.measure import BASELINE, BOTH


def test_without_lift_the_run_stops_with_its_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share = {"value": 0.6, "interval": [0.5, 0.7]}
    card = {"pairs": 90, "accuracy": share, "length_baseline": share, "lift": {"value": 0.0, "interval": [-0.1, 0.1]}}
    (tmp_path / "runs/n/policy").mkdir(parents=True)  # of a verb
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward/card.json").write_text(json.dumps(card))
    reward = Artefact(stage="reward_model", path=tmp_path / "reward", hash="r")
    with pytest.raises(NoLift, match="always the longer one"):
        require_lift(Config(name="n"), reward)
    assert {file.name for file in (tmp_path / "runs/n").iterdir()} == {"card.json", "params.yaml"}
    assert (tmp_path / "runs/n.1/policy").is_dir()
    require_lift(Config.model_validate({"reward_model": {"require_lift": False}}), reward)


def test_what_no_retraining_wrote_is_never_replaced(tmp_path):
    folder = tmp_path / "support"
    set_aside(folder)  # nothing there
    folder.mkdir()
    for name in ("gate.json", "report.html"):
        (folder / name).write_text("old")
    set_aside(folder)
    assert folder.is_dir()  # all of it is a retraining's
    for number in (1, 2):
        folder.mkdir(exist_ok=True)
        (folder / "policy").mkdir()
        (folder / "policy" / "adapter.safetensors").write_text(f"mine {number}")
        set_aside(folder)
        assert not folder.exists()
        assert (tmp_path / f"support.{number}" / "policy" / "adapter.safetensors").read_text() == f"mine {number}"
    assert (tmp_path / "support.1" / "gate.json").read_text() == "old"


@pytest.mark.parametrize(("chosen", "code"), [(None, 3), (BASELINE, 0), (BOTH, 0)])
def test_exit_codes(chosen, code, tmp_path):
    outcome = RemediesOutcome(name="weekly", chosen=chosen, table="", folder=tmp_path)
    assert outcome.exit_code == code
    assert ("next.yaml" in str(outcome)) == (chosen is not None)
