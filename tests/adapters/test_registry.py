"""Registration and promotion on a real MLflow registry in SQLite, each step repeated as after a kill."""

import json
from pathlib import Path

import pytest

from adapters import promotion, registered, registry
from adapters import rivals as compared
from adapters.artefacts import Artefact
from adapters.programme import Taken
from kellet.config.run import Config
from kellet.errors import InputError
from kellet.files import content_hash


@pytest.fixture
def config(tracking):
    return Config.model_validate({"tracking": tracking})


WARM = Config().text


@pytest.fixture
def people(tmp_path):
    """A report in which people have let the candidate through."""
    criteria = [{"name": "independent_judge", "passed": True}, {"name": "kl_price", "passed": None}]
    gate = {"verdict": "promote", "headline": "h", "criteria": criteria}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    for name in ("evaluation.parquet", "report.html"):
        (tmp_path / name).write_text("")
    return Artefact(stage="report", path=tmp_path, hash="r")


def test_a_retraining_is_found_by_its_key(config, add):
    add("a")
    assert int(registered.find_version(config.tracking, "a").version) == 1
    assert registered.find_version(config.tracking, "b") is None


def test_the_same_retraining_is_registered_once(config, client, add, aliases, tmp_path):
    add("a")
    artefact = Artefact(stage="policy", path=tmp_path, hash="h")
    (tmp_path / "gate.json").write_text(json.dumps({"verdict": "block", "headline": "", "criteria": []}))
    taken = Taken(artefact, None)
    version = registry.register(config, {"retraining_key": "a"}, "run", artefact, artefact, artefact, {}, taken)
    assert int(version.version) == 1
    assert len(client.search_model_versions(f"name = '{config.tracking.registered_model}'")) == 1


def test_without_a_champion_or_on_another_base_nothing_is_compared_with(config, client, add, aliases):
    base = Artefact(stage="base_model", path="x", hash="other")
    assert compared.find_rivals(config, {"retraining_key": "z"}, base) == {}
    promotion.promote(config.tracking, add("a"))
    assert compared.find_rivals(config, {"retraining_key": "z"}, base) == {}


def test_the_champion_is_compared_by_the_files_it_was_registered_with(config, client, people, tmp_path, monkeypatch):
    """A real upload, found from another folder; MLflow names an artefact's folder after the one it came from."""
    folders = {"base": tmp_path / "0a1b", "policy": tmp_path / "2c3d"}
    for name, folder in folders.items():
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter/weights.txt").write_text(name)
        (folder / "artefact.json").write_text("the record of the stage")
    base, policy = (Artefact(stage=name, path=path, hash=content_hash(path)) for name, path in folders.items())
    experiment = client.create_experiment(config.tracking.registered_model, str(tmp_path / "mlruns"))
    run_id = client.create_run(experiment).info.run_id
    tags = {"retraining_key": "a", "verdict": "promote", "base_hash": base.hash, "policy_hash": policy.hash}
    version = registry._create_version(config, run_id, base, policy, tags | {"report": str(people.path)})
    promotion.keep_verdict(config.tracking, version, people)
    promotion.promote(config.tracking, version)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (champion,) = compared.find_rivals(config, {"retraining_key": "z"}, base).values()  # which is the anchor too
    assert (champion.path / "adapter/weights.txt").read_text() == "policy"
    assert champion.hash == policy.hash
    found = registered.fetch(
        registered.find(f"{config.tracking.registered_model}@champion", config.tracking), config.tracking
    )
    assert found.policy == champion.path
    assert (found.base / "adapter/weights.txt").read_text() == "base"
    assert found.text == config.text
    assert not list(found.folder.rglob("artefact.json"))
    assert list(Path.cwd().iterdir()) == []
    with pytest.raises(InputError, match="no registered model 'nobody'"):
        registered.find("nobody", config.tracking)


def test_a_retraining_is_always_compared_with_the_same_champion(config, client, add, aliases):
    """Not with itself, when it is repeated after its own promotion."""
    promotion.promote(config.tracking, add("a"))
    base = Artefact(stage="base_model", path="x", hash="b")
    assert compared.find_rivals(config, {"retraining_key": "a"}, base) == {}


def test_the_report_learns_the_champions_parameters(config, client, add, tmp_path):
    experiment = client.create_experiment("described", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "seed: 3\npolicy: {iterations: 5}\n", "params.yaml")
    promotion.promote(config.tracking, add("a", run_id=run))
    champion = Artefact(stage="champion", path=tmp_path, hash="a")
    origin = {"retraining_key": "z", "data_md5": "now"}
    assert compared.describe_champion(config, origin, champion) == {
        "name": f"{config.tracking.registered_model}/1",
        "lineage": {"retraining_key": "a", "data_md5": None},
        "config": {"seed": 3, "policy": {"iterations": 5}},
    }
    assert compared.describe_champion(config, origin, None) is None


def test_a_champion_whose_run_was_deleted_is_still_named(config, client, add, tmp_path):
    experiment = client.create_experiment("deleted", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id  # has no params.yaml
    promotion.promote(config.tracking, add("a", run_id=run))
    champion = Artefact(stage="champion", path=tmp_path, hash="a")
    description = compared.describe_champion(config, {"retraining_key": "z"}, champion)
    assert description == {"name": f"{config.tracking.registered_model}/1", "lineage": {"retraining_key": "a"}}


def test_a_version_judged_anew_says_so_last(config, client, add, people, tmp_path, monkeypatch):
    """After a kill between two tags the report is still the old one, so that the same command does all of it again."""
    name = config.tracking.registered_model
    run = client.create_run(client.create_experiment(name, (tmp_path / "mlruns").as_uri())).info.run_id
    version = add("a", "inconclusive")
    monkeypatch.setattr(registry, "client", lambda _: client)
    original = client.set_model_version_tag
    for done in range(7):
        left = iter(range(done))

        def die(*given, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            original(*given)

        monkeypatch.setattr(client, "set_model_version_tag", die)
        with pytest.raises(KeyboardInterrupt):
            registry.judge_anew(config.tracking, version, run, people, Taken(people, None))
        assert client.get_model_version(name, "1").tags["report"].endswith("/a")
    monkeypatch.setattr(client, "set_model_version_tag", original)
    tags = registry.judge_anew(config.tracking, version, run, people, Taken(people, None)).tags
    assert (tags["verdict"], tags["reasons"], tags["headline"]) == ("promote", "kl_price", "h")
    assert (tags["report"], tags["regate_run"]) == (str(people.path), run)
    assert client.get_run(run).data.tags["verdict"] == "promote"
    assert {file.path for file in client.list_artifacts(run)} == {"evaluation.parquet", "gate.json", "report.html"}


def rivals(config, monkeypatch, key="z", base="b"):
    monkeypatch.setattr(compared, "fetch", lambda version, _: registered.Files(Path(f"folder-{version.version}"), WARM))
    found = compared.find_rivals(config, {"retraining_key": key}, Artefact(stage="base_model", path="x", hash=base))
    return {alias: (artefact.stage, str(artefact.path), artefact.hash) for alias, artefact in found.items()}


def test_the_anchor_is_compared_with_where_it_is_not_the_champion(config, client, add, monkeypatch):
    promotion.promote(config.tracking, add("a"))
    assert rivals(config, monkeypatch) == {"champion": ("champion", "folder-1/data/model/policy", "a")}
    promotion.promote(config.tracking, add("b"))
    expected = {
        "champion": ("champion", "folder-2/data/model/policy", "b"),
        "anchor": ("anchor", "folder-1/data/model/policy", "a"),
    }
    assert rivals(config, monkeypatch) == expected
    assert rivals(config, monkeypatch, base="other") == {}
    colder = Config.model_validate(config.model_dump() | {"text": {"temperature": 0.5}})
    assert rivals(colder, monkeypatch) == {}  # another policy of the same weights


def test_a_retraining_is_always_compared_with_the_same_anchor(config, client, add, monkeypatch):
    name = config.tracking.registered_model
    for key in "abc":
        promotion.promote(config.tracking, add(key))
    client.set_model_version_tag(name, "3", "compared_with", "2")
    client.set_model_version_tag(name, "3", "compared_with_anchor", "1")
    client.set_registered_model_alias(name, "anchor", "3")
    expected = {
        "champion": ("champion", "folder-2/data/model/policy", "b"),
        "anchor": ("anchor", "folder-1/data/model/policy", "a"),
    }
    assert rivals(config, monkeypatch, "c") == expected
