"""Registration and promotion on a real MLflow registry in SQLite, each step repeated as after a kill."""

import functools
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from adapters import registered, registry
from adapters import rivals as compared
from adapters.artefacts import Artefact
from adapters.programme import Taken
from kellet.config.run import Config
from kellet.errors import InputError


@pytest.fixture
def config(uri, request):
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return Config.model_validate({"tracking": {"uri": uri, "registered_model": name}})


@pytest.fixture
def client(config):
    return MlflowClient(config.tracking.uri)


@pytest.fixture
def add(config, client, tmp_path):
    """Create a version as ``register`` does, without uploading a model."""
    name = config.tracking.registered_model
    client.create_registered_model(name)

    def create(key, verdict="promote", run_id=None):
        tags = {
            "retraining_key": key,
            "verdict": verdict,
            "base_hash": "b",
            "policy_hash": key,
            "compared_with": "none",
        }
        return client.create_model_version(name, str(tmp_path), run_id=run_id, tags=tags)

    return create


@pytest.fixture
def aliases(config, client):
    def read():
        found = client.get_registered_model(config.tracking.registered_model).aliases
        return {alias: str(number) for alias, number in found.items()}

    return read


@pytest.mark.parametrize("verdict", ["block", "inconclusive"])
def test_only_a_promoted_version_becomes_champion(config, client, add, aliases, verdict):
    registry.promote(config.tracking, add("a", verdict))
    assert aliases() == {}


WARM = Config().text.model_dump()


def test_the_champion_before_becomes_previous(config, client, add, aliases):
    registry.promote(config.tracking, add("a"))
    assert aliases() == {"champion": "1", "anchor": "1"}
    registry.promote(config.tracking, add("b"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}


@pytest.mark.parametrize("better", ["true", "false"])
def test_promotion_repeated_after_a_kill_at_any_point(config, client, add, aliases, monkeypatch, better):
    """Champion moves last, and the tag that says so after it."""
    registry.promote(config.tracking, add("a"))
    name = config.tracking.registered_model
    add("b")
    client.set_model_version_tag(name, "2", "becomes_anchor", better)
    monkeypatch.setattr(registry, "client", lambda _: client)
    writes = ("set_registered_model_alias", "set_model_version_tag")
    originals = {write: getattr(client, write) for write in writes}
    for done in range(5):
        left = iter(range(done))

        def die(*given, write, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            originals[write](*given)

        for write in writes:
            monkeypatch.setattr(client, write, functools.partial(die, write=write))
        with pytest.raises(KeyboardInterrupt):
            registry.promote(config.tracking, registered.find_version(config.tracking, "b"))
        assert aliases()["champion"] == ("2" if done == 4 else "1")
    for write in writes:
        monkeypatch.setattr(client, write, originals[write])
    registry.promote(config.tracking, registered.find_version(config.tracking, "b"))
    anchor = {"true": "2", "false": "1"}[better]
    assert aliases() == {"champion": "2", "previous": "1", "anchor": anchor}
    assert client.get_model_version(name, "2").tags["anchor"] == anchor
    assert "promoted_at" in client.get_model_version(name, "2").tags


def test_a_version_that_was_replaced_does_not_come_back(config, client, add, aliases):
    registry.promote(config.tracking, add("a"))
    registry.promote(config.tracking, add("b"))
    registry.promote(config.tracking, registered.find_version(config.tracking, "a"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}


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
    registry.promote(config.tracking, add("a"))
    assert compared.find_rivals(config, {"retraining_key": "z"}, base) == {}


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_the_champion_is_compared_by_the_files_it_was_registered_with(config, client, tmp_path, monkeypatch):
    """A real upload, found from another folder; MLflow names an artefact's folder after the one it came from."""
    folders = {"base": tmp_path / "0a1b", "policy": tmp_path / "2c3d"}
    for name, folder in folders.items():
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter/weights").write_text(name)
    base, policy = (Artefact(stage=name, path=folder, hash=name) for name, folder in folders.items())
    experiment = client.create_experiment(config.tracking.registered_model, str(tmp_path / "mlruns"))
    run_id = client.create_run(experiment).info.run_id
    tags = {"retraining_key": "a", "verdict": "promote", "base_hash": "base", "policy_hash": "policy"}
    registry.promote(config.tracking, registry._create_version(config, run_id, base, policy, tags))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (champion,) = compared.find_rivals(config, {"retraining_key": "z"}, base).values()  # which is the anchor too
    assert (champion.path / "adapter/weights").read_text() == "policy"
    assert champion.hash == "policy"
    found = registered.find(f"{config.tracking.registered_model}@champion", config.tracking.uri)
    assert found["policy"] == str(champion.path)
    assert (Path(found["base"]) / "adapter/weights").read_text() == "base"
    assert found["text"] == config.text.model_dump()
    assert list(Path.cwd().iterdir()) == []
    with pytest.raises(InputError, match="no registered model 'nobody'"):
        registered.find("nobody", config.tracking.uri)


def test_a_retraining_is_always_compared_with_the_same_champion(config, client, add, aliases):
    """Not with itself, when it is repeated after its own promotion."""
    registry.promote(config.tracking, add("a"))
    base = Artefact(stage="base_model", path="x", hash="b")
    assert compared.find_rivals(config, {"retraining_key": "a"}, base) == {}


def test_the_report_learns_the_champions_parameters(config, client, add, tmp_path):
    experiment = client.create_experiment("described", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "seed: 3\npolicy: {iterations: 5}\n", "params.yaml")
    registry.promote(config.tracking, add("a", run_id=run))
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
    registry.promote(config.tracking, add("a", run_id=run))
    champion = Artefact(stage="champion", path=tmp_path, hash="a")
    description = compared.describe_champion(config, {"retraining_key": "z"}, champion)
    assert description == {"name": f"{config.tracking.registered_model}/1", "lineage": {"retraining_key": "a"}}


def test_a_comparison_holds_while_the_champion_is_the_one_compared_with(config, client, add, aliases):
    name = config.tracking.registered_model
    registry.require_current(config.tracking, add("a"))  # compared with none, and there is none
    registry.promote(config.tracking, add("b"))
    version = add("c")
    with pytest.raises(InputError, match=r"/3 was compared with champion none, and the champion is 2 now"):
        registry.require_current(config.tracking, version)
    client.set_model_version_tag(name, "3", "compared_with", "2")
    registry.require_current(config.tracking, client.get_model_version(name, "3"))
    registry.require_current(config.tracking, client.get_model_version(name, "2"))  # champion itself
    client.set_model_version_tag(name, "1", "base_hash", "other")  # on another base, so it is not comparable
    registry.require_current(config.tracking, client.get_model_version(name, "1"))


def test_a_version_that_was_taken_back_is_not_promoted_by_people(config, client, add):
    name = config.tracking.registered_model
    registry.promote(config.tracking, add("a"))
    registry.promote(config.tracking, add("b"))
    client.set_model_version_tag(name, "2", "compared_with", "1")
    registry.roll_back(config.tracking, "why")
    with pytest.raises(InputError, match=r"/2 became champion at .*flows.rollback --to 2"):
        registry.require_current(config.tracking, client.get_model_version(name, "2"))


@pytest.fixture
def people(tmp_path):
    """A report in which people have let the candidate through."""
    criteria = [{"name": "independent_judge", "passed": True}, {"name": "kl_price", "passed": None}]
    gate = {"verdict": "promote", "headline": "h", "criteria": criteria}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    for name in ("evaluation.parquet", "report.html"):
        (tmp_path / name).write_text("")
    return Artefact(stage="report", path=tmp_path, hash="r")


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
        assert "report" not in client.get_model_version(name, "1").tags
    monkeypatch.setattr(client, "set_model_version_tag", original)
    tags = registry.judge_anew(config.tracking, version, run, people, Taken(people, None)).tags
    assert (tags["verdict"], tags["reasons"], tags["headline"]) == ("promote", "kl_price", "h")
    assert (tags["report"], tags["regate_run"]) == (str(people.path), run)
    assert client.get_run(run).data.tags["verdict"] == "promote"
    assert {file.path for file in client.list_artifacts(run)} == {"evaluation.parquet", "gate.json", "report.html"}


def test_a_rollback_gives_champion_back_with_its_reason(config, client, add, aliases):
    name = config.tracking.registered_model
    with pytest.raises(InputError, match=r"no version of .* has the alias 'previous'; name the version with --to"):
        registry.roll_back(config.tracking, "why")
    registry.promote(config.tracking, add("a"))
    registry.promote(config.tracking, add("b"))
    add("c", "block")
    with pytest.raises(InputError, match=r"the gate said block of .*/3"):
        registry.roll_back(config.tracking, "why", 3)
    with pytest.raises(InputError, match=r"/9 is not registered"):
        registry.roll_back(config.tracking, "why", 9)
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    assert registry.roll_back(config.tracking, "too long").endswith("/1 is champion in place of version 2: too long")
    assert aliases() == {"champion": "1", "previous": "1", "anchor": "1"}
    assert client.get_model_version(name, "2").tags["rolled_back"].endswith(", to version 1: too long")
    assert client.get_model_version(name, "1").tags["rolled_back_to"].endswith(", from version 2: too long")
    assert "nothing was changed" in registry.roll_back(config.tracking, "too long")
    registry.roll_back(config.tracking, "drill", 3, force=True)
    assert aliases() == {"champion": "3", "previous": "1", "anchor": "3"}  # no champion by the gate: its own anchor


def test_the_anchor_is_the_champion_of_an_older_registry_until_something_is_shown_better(config, client, add, aliases):
    """Version 1 became champion before there were anchors."""
    name = config.tracking.registered_model
    add("a")
    client.set_registered_model_alias(name, "champion", "1")
    registry.promote(config.tracking, add("b"))
    assert aliases() == {"champion": "2", "previous": "1", "anchor": "1"}
    registry.promote(config.tracking, add("c"))
    assert aliases() == {"champion": "3", "previous": "2", "anchor": "1"}
    add("d")
    client.set_model_version_tag(name, "4", "becomes_anchor", "true")
    registry.promote(config.tracking, client.get_model_version(name, "4"))
    assert aliases() == {"champion": "4", "previous": "3", "anchor": "4"}


def test_a_rollback_takes_the_anchor_of_that_time_back(config, client, add, aliases):
    name = config.tracking.registered_model
    registry.promote(config.tracking, add("a"))
    registry.promote(config.tracking, add("b"))  # not shown better: the anchor is version 1
    add("c")
    client.set_model_version_tag(name, "3", "becomes_anchor", "true")
    registry.promote(config.tracking, client.get_model_version(name, "3"))
    assert aliases() == {"champion": "3", "previous": "2", "anchor": "3"}
    registry.roll_back(config.tracking, "bad")
    assert aliases() == {"champion": "2", "previous": "2", "anchor": "1"}
    registry.roll_back(config.tracking, "no, it was good", 3)
    assert aliases() == {"champion": "3", "previous": "2", "anchor": "3"}
    client.delete_model_version(name, "1")
    registry.roll_back(config.tracking, "bad after all")
    assert aliases() == {"champion": "2", "previous": "2", "anchor": "2"}  # that of its time was deleted


def rivals(config, monkeypatch, key="z", base="b"):
    monkeypatch.setattr(compared, "fetch", lambda _name, number, _uri: {"policy": f"folder-{number}", "text": WARM})
    found = compared.find_rivals(config, {"retraining_key": key}, Artefact(stage="base_model", path="x", hash=base))
    return {alias: (artefact.stage, str(artefact.path), artefact.hash) for alias, artefact in found.items()}


def test_the_anchor_is_compared_with_where_it_is_not_the_champion(config, client, add, monkeypatch):
    registry.promote(config.tracking, add("a"))
    assert rivals(config, monkeypatch) == {"champion": ("champion", "folder-1", "a")}
    registry.promote(config.tracking, add("b"))
    expected = {"champion": ("champion", "folder-2", "b"), "anchor": ("anchor", "folder-1", "a")}
    assert rivals(config, monkeypatch) == expected
    assert rivals(config, monkeypatch, base="other") == {}
    colder = Config.model_validate(config.model_dump() | {"text": {"temperature": 0.5}})
    assert rivals(colder, monkeypatch) == {}  # another policy of the same weights


def test_a_retraining_is_always_compared_with_the_same_anchor(config, client, add, monkeypatch):
    name = config.tracking.registered_model
    for key in "abc":
        registry.promote(config.tracking, add(key))
    client.set_model_version_tag(name, "3", "compared_with", "2")
    client.set_model_version_tag(name, "3", "compared_with_anchor", "1")
    client.set_registered_model_alias(name, "anchor", "3")
    expected = {"champion": ("champion", "folder-2", "b"), "anchor": ("anchor", "folder-1", "a")}
    assert rivals(config, monkeypatch, "c") == expected
