"""Versions in the registry that Kellet did not register, or not as they are now, on a real MLflow: refused by name."""

from pathlib import Path

import mlflow
import pytest

from adapters import candidate, data_history, promotion, registered, rivals
from adapters import tracking as runs
from adapters.artefacts import Artefact
from adapters.candidate import JUDGED, LINEAGE
from adapters.dvc import Dataset
from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.errors import DataError, InputError
from kellet.files import write_json
from tasks import outcome

ORIGIN = {"retraining_key": "z"}
OURS = dict.fromkeys((*LINEAGE, *JUDGED), "x") | {"base_hash": "b", "verdict": "promote", "compared_with": "none"}


@pytest.fixture
def config(client, tracking):
    client.create_registered_model(tracking["registered_model"])
    return Config.model_validate({"tracking": tracking})


@pytest.fixture
def experiment(config, client, tmp_path):
    return client.create_experiment(config.tracking.experiment, (tmp_path / "mlruns").as_uri())


@pytest.fixture
def add(config, client, tmp_path):
    """A version by plain MLflow, with these tags."""

    def create(source=None, run_id=None, alias=None, **tags):
        name = config.tracking.registered_model
        version = client.create_model_version(name, str(source or tmp_path / "theirs"), run_id=run_id, tags=tags)
        if alias:
            client.set_registered_model_alias(name, alias, version.version)
        return version

    return create


@pytest.fixture
def theirs(config, experiment):
    """A model that somebody else logged: an ordinary function."""
    mlflow.set_tracking_uri(config.tracking.uri)
    with mlflow.start_run(experiment_id=experiment) as run:
        model = mlflow.pyfunc.log_model(name="theirs", python_model=echo, pip_requirements=["mlflow"])
    return model.model_uri, run.info.run_id


def echo(model_input: list[str]) -> list[str]:
    return model_input


def refusal(work, *given):
    with pytest.raises(InputError) as error:
        work(*given)
    return str(error.value)


@pytest.mark.parametrize("alias", ["champion", "anchor"])
def test_before_anything_is_trained_a_rival_of_somebody_elses_is_refused_by_its_name(config, add, alias):
    add(alias=alias, owner="risk team", verdict="promote")
    message = refusal(rivals.require_rivals, config, ORIGIN)
    name = config.tracking.registered_model
    assert message.startswith(f"{name}/1 (alias {alias}) was not registered by Kellet: it has no tags retraining_key, ")
    assert "flows.rollback --to N" in message
    assert "delete_registered_model_alias" in message
    assert "tracking.registered_model" in message
    base = Artefact(stage="base_model", path=Path("x"), hash="b")
    assert refusal(rivals.find_rivals, config, ORIGIN, base) == message  # it may get the alias while we train


@pytest.mark.parametrize("lost", registered.IDENTITY)
def test_a_champion_that_lost_a_tag_is_refused_by_the_tag(config, add, lost):
    add(alias="champion", **{**OURS, lost: ""})
    message = refusal(rivals.require_rivals, config, ORIGIN)
    assert f"/1 (alias champion) has no tag {lost} any more, which Kellet registers with" in message


def test_without_an_alias_a_foreign_version_is_in_nobodys_way(config, add):
    add()
    rivals.require_rivals(config, ORIGIN)
    assert rivals.find_rivals(config, ORIGIN, Artefact(stage="base_model", path=Path("x"), hash="b")) == {}


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_our_tags_on_their_files_are_refused_before_training(config, add, theirs):
    add(*theirs, alias="champion", **OURS, manifest_hash="0" * 64)
    with pytest.raises(DataError, match=r"manifest\.json of .*/1 is nothing, and 000000000000 was registered"):
        rivals.require_rivals(config, ORIGIN)


@pytest.mark.parametrize("source", ["nowhere", "http://example.invalid/model", "runs:/0123/model"])
def test_a_champion_whose_files_are_gone_is_refused_before_training(config, add, source, tmp_path):
    add(tmp_path / source if source == "nowhere" else source, alias="champion", **OURS, manifest_hash="0")
    message = refusal(rivals.require_rivals, config, ORIGIN)
    assert f"the files of {config.tracking.registered_model}/1 (" in message
    assert "cannot be read" in message
    assert "\n" not in message


def test_a_champion_that_was_compared_with_and_deleted_since_is_named(config, client, add):
    add(**OURS)
    add(**OURS | {"retraining_key": "z", "compared_with": "1"})
    client.delete_model_version(config.tracking.registered_model, "1")
    message = refusal(rivals.require_rivals, config, ORIGIN)
    assert (
        f"{config.tracking.registered_model}/1, the champion that this retraining was compared with before" in message
    )
    assert "--set gate.seed=1" in message


def test_an_earlier_outcome_whose_tags_are_half_there_is_refused(config, add, monkeypatch):
    monkeypatch.setattr(outcome, "find_version", outcome.find_version.fn)  # as it is without Prefect
    tags = {**OURS, "retraining_key": "z"}
    del tags["report"]
    add(**tags)
    message = refusal(outcome.earlier_outcome, config, ORIGIN)
    assert "/1 has no tag report any more" in message
    assert "delete the version" in message


def test_people_do_not_promote_over_a_champion_of_somebody_elses(config, add):
    ours = add(**OURS)
    add(alias="champion")
    message = refusal(promotion.require_current, config.tracking, ours)
    assert "/2 (alias champion) was not registered by Kellet" in message


def test_a_rollback_to_a_foreign_version_asks_for_force(config, client, add):
    add(**OURS, alias="champion")
    add(verdict="promote", alias="previous")
    message = refusal(promotion.roll_back, config.tracking, "bad")
    assert "/2 was not registered by Kellet" in message
    assert "--force" in message
    assert client.get_model_version_by_alias(config.tracking.registered_model, "champion").version == 1
    assert promotion.roll_back(config.tracking, "bad", force=True).endswith("/2 is champion in place of version 1: bad")
    assert "(alias champion) was not registered by Kellet" in refusal(rivals.require_rivals, config, ORIGIN)


def test_regate_passes_over_versions_that_kellet_did_not_register(config, client, add, experiment, tmp_path, caplog):
    """A copy made by hand from our run has its parameters, and none of our tags."""
    run = client.create_run(experiment).info.run_id
    client.log_text(run, dump_config(config), "params.yaml")
    for name in candidate.FILES:
        (tmp_path / name).write_text("")
    write_json(tmp_path / "gate.json", {"verdict": "inconclusive", "config": {"judge": "judge_model"}})
    add(run_id=run, **OURS | {"report": str(tmp_path)})
    add(run_id=run)
    assert candidate.find_candidate(config).model == f"{config.tracking.registered_model}/1"
    message = refusal(candidate.find_candidate, config, 2)
    assert "/2 was not registered by Kellet" in message
    client.delete_model_version(config.tracking.registered_model, "1")
    assert refusal(candidate.find_candidate, config).startswith("none of the 1 versions of ")


def test_regate_reads_only_reports_that_its_own_runs_name(config, client, add, experiment, tmp_path):
    run = client.create_run(experiment, tags={"regates": f"{config.tracking.registered_model}/1"}).info.run_id
    client.log_text(run, dump_config(config), "params.yaml")
    for name in candidate.FILES:
        (tmp_path / name).write_text("{}")
    add(run_id=run, **OURS | {"report": str(tmp_path)})
    assert candidate.find_candidate(config).reports == (tmp_path,)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, "was not registered by Kellet: it has no tag data_md5; so which data it learned from is not known"),
        ({"base_hash": "b"}, "has no tag data_md5 any more"),
        ({"data_md5": "see wiki"}, "is 'see wiki', wanted DVC's md5 of a folder"),
        ({"data_md5": "../../../etc"}, "is '../../../etc', wanted DVC's md5 of a folder"),
    ],
)
def test_data_of_a_version_without_their_md5_is_refused(config, add, tags, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add(**tags)
    message = refusal(data_history.restore, f"{config.tracking.registered_model}/1", config.tracking, tmp_path / "out")
    assert expected in message
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".dvc" or path.name == "out"]


def test_data_of_a_registry_that_is_not_there_are_refused_and_none_is_made(config, tmp_path):
    missing = config.tracking.model_copy(update={"uri": f"sqlite:///{tmp_path}/none.db"})
    assert "does not exist" in refusal(data_history.restore, "kellet/1", missing, None)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_chat_with_a_model_of_somebody_elses_is_refused(config, add, theirs):
    version = add(*theirs, alias="champion")
    found = registered.find(config.tracking.registered_model, config.tracking)
    assert found.version == version.version
    assert "/1 was not registered by Kellet: it has no tags retraining_key" in refusal(
        registered.fetch, found, config.tracking
    )


def test_an_experiment_that_was_deleted_is_refused_with_how_to_restore_it(config, client, experiment, tmp_path):
    data = Dataset(name="d", folder=tmp_path, hash="h", summary={})
    client.delete_experiment(experiment)
    message = refusal(runs.start_run, config, data, ORIGIN, "retrain")
    assert f"restore --experiment-id {experiment}" in message
    client.restore_experiment(experiment)
    assert runs.start_run(config, data, ORIGIN, "retrain")
