"""The looks of a registered model on a real MLflow registry: each is counted once, whoever dies."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from adapters import artefacts, programme, registry
from adapters.artefacts import Artefact
from adapters.programme import Taken
from kellet.config.run import Config
from kellet.errors import InputError
from kellet.evaluation.file import check_evaluation, read_evaluation
from kellet.files import content_hash, write_json
from kellet.gate.programme import lord_level
from tests.helpers.evaluations import evaluation


@pytest.fixture
def config(uri, request, tmp_path, monkeypatch):
    monkeypatch.setattr(artefacts, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(artefacts, "LOCKS", tmp_path / "locks")
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    MlflowClient(uri).create_registered_model(name)
    return Config.model_validate({"tracking": {"uri": uri, "registered_model": name, "experiment": name}})


@pytest.fixture
def client(config):
    return MlflowClient(config.tracking.uri)


@pytest.fixture
def new_run(config, client, tmp_path):
    experiment = client.create_experiment(config.tracking.experiment, (tmp_path / "mlruns").as_uri())
    return lambda: client.create_run(experiment).info.run_id


def drawn(tmp_path, seed=0, prompts=20, **settings):
    """The artefact of an evaluation, with answers of its own for each seed."""
    rows = evaluation(prompts, seed=seed, **settings)
    folder = tmp_path / f"evaluation-{seed}-{prompts}-{len(settings)}"
    folder.mkdir(exist_ok=True)
    rows.assign(response=rows["response"] + f" ({seed})").to_parquet(folder / "evaluation.parquet", index=False)
    (folder / "token_kl.json").write_text("{}")
    return Artefact(stage="evaluation", path=folder, hash=content_hash(folder))


def policy(name):
    return Artefact(stage="policy", path=Path(name), hash=name * 8)


@pytest.fixture
def retrain(config, client, new_run, tmp_path, monkeypatch):
    """What flows/retrain.py does with a look, from the answers to the registered version."""
    model = config.tracking.registered_model
    create = lambda _config, run, _base, _policy, tags: client.create_model_version(  # noqa: E731
        model, str(tmp_path), run_id=run, tags=tags
    )
    monkeypatch.setattr(registry, "_create_version", create)

    def run(key, name, answers, verdict="block", rivals=None, config=config):
        version = registry.find_version(config.tracking, key)
        taken = programme.take_look(config, version, policy(name), answers, rivals or {})
        report = tmp_path / f"report-{key}"
        report.mkdir(exist_ok=True)
        write_json(report / "gate.json", {"verdict": verdict, "headline": "h", "criteria": []})
        read_evaluation(taken.evaluation.path / "evaluation.parquet").to_parquet(report / "evaluation.parquet")
        base, shown = (Artefact(stage=stage, path=report, hash="b") for stage in ("base_model", "report"))
        arguments = (config, {"retraining_key": key}, new_run(), base, policy(name), shown, rivals or {}, taken)
        return taken, registry.register(*arguments)

    return run


def test_each_retraining_is_a_look_at_the_level_that_is_left(config, retrain, tmp_path):
    first, _ = retrain("k1", "a", drawn(tmp_path, 0))
    second, _ = retrain("k2", "b", drawn(tmp_path, 1), "promote")
    third, version = retrain("k3", "c", drawn(tmp_path, 2, prompts=30))
    levels = [lord_level(t, (2,)[: t > 2], 0.1, 0.05) for t in (1, 2, 3)]
    assert [taken.look.level for taken in (first, second, third)] == levels
    assert (third.look.number, third.look.promoted_before, third.look.judged_before) == (3, 1, 0)
    assert (third.look.prompts, third.look.decided_before, third.look.most_often) == (30, 20, 2)
    kept = json.loads(version.tags["looks"])
    assert [(item["past"]["look"]["number"], item["past"]["verdict"]) for item in kept] == [(3, "block")]
    assert sorted(programme.read_programme(config).prompts.values()) == [1] * 10 + [3] * 20


def test_a_look_that_was_not_registered_is_taken_again(config, retrain, tmp_path, monkeypatch, new_run):
    """Killed before the version exists, nothing was spent, though the files are in a run."""
    retrain("k1", "a", drawn(tmp_path, 0))
    with monkeypatch.context() as patched:

        def die(*given):
            raise KeyboardInterrupt

        patched.setattr(registry, "_create_version", die)
        with pytest.raises(KeyboardInterrupt):
            retrain("k2", "b", drawn(tmp_path, 1))
    assert programme.read_programme(config).next_number == 2
    taken, _ = retrain("k2", "b", drawn(tmp_path, 1))
    assert (taken.look.number, taken.look.most_often) == (2, 1)
    again, _ = retrain("k2", "b", drawn(tmp_path, 1))
    assert again == taken
    assert programme.read_programme(config).next_number == 3


def test_a_registered_retraining_is_the_look_that_it_was(config, retrain, tmp_path):
    taken, version = retrain("k1", "a", drawn(tmp_path, 0))
    retrain("k2", "a", drawn(tmp_path, 1))
    again = programme.take_look(config, version, policy("a"), drawn(tmp_path, 0), {})
    assert again == taken
    rotating = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"rotation": True})})
    assert programme.begin_look(rotating, version) == 1
    assert programme.begin_look(rotating, None) == 3
    assert programme.begin_look(config, None) is None  # all looks ask the same prompts


def test_the_same_policy_judged_again_keeps_its_answers(config, retrain, tmp_path):
    retrain("k1", "a", drawn(tmp_path, 0))
    retrain("k2", "b", drawn(tmp_path, 5))
    second, _ = retrain("k3", "a", drawn(tmp_path, 1))
    rows = read_evaluation(second.evaluation.path / "evaluation.parquet")
    assert len(rows) == 2 * 80
    assert second.look.sentence.startswith("Look 3 of this programme")
    assert "policy-aaaaaaaa judged for the 2nd time on 80 answers" in second.look.sentence
    assert (second.evaluation.path / "token_kl.json").is_file()
    third, _ = retrain("k4", "a", drawn(tmp_path, 2))
    assert len(read_evaluation(third.evaluation.path / "evaluation.parquet")) == 3 * 80


def test_the_same_answers_again_need_no_new_file(config, retrain, tmp_path):
    retrain("k1", "a", drawn(tmp_path, 0))
    second, _ = retrain("k2", "a", drawn(tmp_path, 0))
    assert second.evaluation.path == drawn(tmp_path, 0).path
    assert (second.look.number, second.look.judged_before) == (2, 1)


@pytest.mark.parametrize("now", ["old", "new"])
def test_answers_of_another_champion_are_left_out(config, retrain, tmp_path, now):
    champions = {name: Artefact(stage="champion", path=Path(name), hash=name) for name in ("old", "new")}
    retrain("k1", "a", drawn(tmp_path, 0, champion_gain=0.0), rivals={"champion": champions["old"]})
    taken, _ = retrain("k2", "a", drawn(tmp_path, 1, champion_gain=0.0), rivals={"champion": champions[now]})
    rows = read_evaluation(taken.evaluation.path / "evaluation.parquet")
    assert rows["system"].value_counts().to_dict() == {
        "candidate": 80,
        "reference": 80,
        "champion": 80 if now == "old" else 40,
    }


def test_earlier_answers_that_are_gone_are_no_fresh_start(config, retrain, tmp_path):
    _, version = retrain("k1", "a", drawn(tmp_path, 0))
    run = json.loads(version.tags["looks"])[0]["run"]
    (kept,) = (tmp_path / "mlruns").glob(f"{run}/artifacts/evaluation.parquet")
    kept.unlink()
    with pytest.raises(InputError, match=r"policy-aaaaaaaa was judged before \(look 1\) by answers that MLflow run"):
        retrain("k2", "a", drawn(tmp_path, 1))
    assert programme.read_programme(config).next_number == 2


def test_the_counts_of_a_run_that_is_gone_are_those_of_the_look_before(config, retrain, tmp_path, caplog):
    retrain("k1", "a", drawn(tmp_path, 0))
    _, version = retrain("k2", "b", drawn(tmp_path, 1))
    run = json.loads(version.tags["looks"])[0]["run"]
    (kept,) = (tmp_path / "mlruns").glob(f"{run}/artifacts/prompts.json")
    kept.unlink()
    assert set(programme.read_programme(config).prompts.values()) == {1}
    assert "which prompts look 2 decided is not in MLflow any more" in caplog.text


@pytest.fixture
def judged(config, client, retrain, new_run, tmp_path):
    """A version, and what flows/regate.py does with people's verdicts on it."""
    _, version = retrain("k1", "a", drawn(tmp_path, 0))
    retrain("k2", "b", drawn(tmp_path, 1))

    def judge(prompts, verdict="promote", number=str(version.version)):
        version = client.get_model_version(config.tracking.registered_model, number)
        answers = drawn(tmp_path, 0, judged=prompts)
        taken = Taken(answers, programme.take_look_again(config, version, answers))
        report = tmp_path / "regated"
        report.mkdir(exist_ok=True)
        write_json(report / "gate.json", {"verdict": verdict, "headline": "h", "criteria": []})
        (report / "report.html").write_text("")
        check_evaluation(pd.read_parquet(answers.path / "evaluation.parquet")).to_parquet(report / "evaluation.parquet")
        artefact = Artefact(stage="report", path=report, hash="r")
        return taken.look, lambda: registry.judge_anew(config.tracking, version, new_run(), artefact, taken)

    return judge


def test_verdicts_of_people_are_one_more_look_at_the_same_candidate(config, judged):
    look, register = judged(5)
    assert (look.number, look.candidate, look.judged_before) == (3, "policy-aaaaaaaa", 1)
    version = register()
    assert [item.number for item in programme.looks_of(version)] == [1, 3]
    assert programme.read_programme(config).promoted == (3,)
    again, register = judged(5)  # the same verdicts, as after a kill between two tags
    assert again == look
    assert [item.number for item in programme.looks_of(register())] == [1, 3]
    more, _ = judged(12)
    assert (more.number, more.level) == (4, lord_level(4, (3,), 0.1, 0.05))


def test_a_programme_keeps_its_rate(config, retrain, tmp_path):
    retrain("k1", "a", drawn(tmp_path, 0))
    other = config.model_copy(update={"gate": config.gate.model_copy(update={"programme_level": 0.2})})
    with pytest.raises(
        InputError, match=r"rate of 0\.1, and gate\.programme_level is 0\.2; .* set it to 0\.1, or begin"
    ):
        programme.begin_look(other, None)


def test_a_tag_that_was_edited_is_refused(config, client, retrain, tmp_path):
    retrain("k1", "a", drawn(tmp_path, 0))
    client.set_model_version_tag(config.tracking.registered_model, "1", "looks", "[{}]")
    with pytest.raises(InputError, match=r"the tag 'looks' of .*/1 is not as Kellet writes it"):
        programme.begin_look(config, None)


def test_switched_off_no_look_is_counted(config, client, retrain, tmp_path):
    off = config.model_copy(update={"gate": config.gate.model_copy(update={"programme": False})})
    taken, version = retrain("k1", "a", drawn(tmp_path, 0), config=off)
    assert taken.look is None
    assert "looks" not in version.tags
    assert programme.take_look_again(off, version, drawn(tmp_path, 1)) is None
    rotating = off.model_copy(update={"evaluation": off.evaluation.model_copy(update={"rotation": True})})
    assert programme.begin_look(rotating, None) is None


def test_versions_from_before_the_programme_are_no_looks(config, client, retrain, tmp_path):
    client.create_model_version(config.tracking.registered_model, str(tmp_path), tags={"verdict": "promote"})
    taken, _ = retrain("k1", "a", drawn(tmp_path, 0))
    assert (taken.look.number, taken.look.promoted_before) == (1, 0)
