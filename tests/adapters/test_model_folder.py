"""A registered model holds no code; whatever is changed in its folder, or in the registry, is refused by its name."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import yaml

from adapters import promotion, registered, registry
from adapters.artefacts import Artefact
from adapters.model_folder import write_model
from kellet.config.run import Config
from kellet.config.training import Lora
from kellet.errors import DataError, InputError
from kellet.files import content_hash, write_json
from kellet.manifest import FILE, write_manifest
from kellet.models.sampling import generate_text, load_policy
from kellet.models.served_model import BASE, LOADER, POLICY, TEXT, check_served
from kellet.models.trunk import add_adapter, save_adapter
from tests.helpers import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*inferred as AnyType:UserWarning")  # MLflow, at its own import
PROMPTS = ["where is my order", "hello"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """A policy that differs from its base, as training writes it."""
    folder = tmp_path_factory.mktemp("trained") / "policy"
    save_adapter(tiny.perturb(add_adapter(tiny.base()[0], Lora(rank=2), 0)), folder / "adapter")
    write_manifest(folder, "policy", base=tiny.folder() / "base")
    return folder


@pytest.fixture(scope="module")
def model(policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model(folder, tiny.folder() / "base", policy, tiny.config().text)
    return folder


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def change_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change_mlmodel(folder, sealed=True, **settings):
    """Change the MLmodel file and, as whoever may write to the bucket can, the manifest after it."""
    file = folder / "MLmodel"
    content = yaml.safe_load(file.read_text())
    content["flavors"]["python_function"] |= settings
    file.write_text(yaml.safe_dump(content))
    if sealed:
        write_manifest(folder, "served_model")


def refusal(folder, kind=DataError):
    """What both ways in say: ours, and MLflow's own."""
    with pytest.raises(kind) as error:
        check_served(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mlflow_serves_the_policy_by_the_code_that_is_installed(model, policy):
    loaded = mlflow.pyfunc.load_model(str(model))
    text = tiny.config().text
    trunk = load_policy(tiny.folder() / "base", policy / "adapter", text.temperature)
    assert loaded.predict(PROMPTS) == generate_text(*trunk, PROMPTS, text, seed=None)
    sampled = loaded.predict(pd.DataFrame({"prompt": PROMPTS}), params={"seed": 3})
    assert sampled == generate_text(*trunk, PROMPTS, text, seed=3)
    assert sampled != generate_text(*trunk, PROMPTS, text, seed=4)
    with pytest.raises(InputError, match="a prompt is a text; got float"):
        loaded.predict(pd.DataFrame({"prompt": [1.5]}))


def test_it_holds_no_code_and_no_pickle(model):
    names = {str(file.relative_to(model)) for file in model.rglob("*") if file.is_file()}
    assert {Path(name).suffix for name in names} <= {"", ".json", ".safetensors", ".md", ".yaml", ".txt"}
    assert {str(TEXT), str(BASE / "model.safetensors"), str(POLICY / "adapter/adapter_model.safetensors")} < names
    settings = yaml.safe_load((model / "MLmodel").read_text())["flavors"]["python_function"]
    assert settings["loader_module"] == LOADER
    assert not settings["code"]
    assert "kellet" not in (model / "requirements.txt").read_text()


def test_a_byte_changed_anywhere_is_named(model, tmp_path):
    names = [str(file.relative_to(model)) for file in model.rglob("*") if file.is_file() and file.name != FILE]
    assert len(names) >= 10
    for name in [*names, "manifest.json of the policy"]:
        file = name.replace("manifest.json of the policy", str(POLICY / FILE))
        folder = shutil.copytree(model, tmp_path / "copy")
        change_byte(folder / file)
        assert f"is not what was written: {file} changed or missing" in refusal(folder)
        (folder / file).unlink()
        assert f"is not what was written: {file} changed or missing" in refusal(folder)
        shutil.rmtree(folder)


def test_a_file_that_was_added_is_named(copy):
    (copy / BASE / "extra.json").write_text("{}")
    assert f"{BASE / 'extra.json'} was added" in refusal(copy)
    with pytest.raises(DataError, match=r"extra\.json was added"):
        mlflow.pyfunc.load_model(str(copy))


def test_without_a_manifest_it_is_refused(copy):
    (copy / FILE).unlink()
    assert f"has no {FILE}" in refusal(copy)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"loader_module": "os"}, "loader_module: 'os'"),
        ({"loader_module": "mlflow.pyfunc.model", "python_model": "p.pkl"}, "loader_module: 'mlflow.pyfunc.model'"),
        ({"code": "code"}, "code: 'code'"),
        ({"data": "data"}, "data: 'data'"),
        ({"config": {"text": {"temperature": 9}}}, "config: {'text'"),
        ({"predict_fn": "__class__"}, "predict_fn: '__class__'"),
    ],
)
def test_another_loader_or_code_is_refused_even_when_the_manifest_was_made_anew(copy, settings, named):
    change_mlmodel(copy, **settings)
    message = refusal(copy)
    assert "MLmodel has " in message
    assert named in message


def test_another_flavour_is_refused(copy):
    content = yaml.safe_load((copy / "MLmodel").read_text())
    content["flavors"]["sklearn"] = {"pickled_model": "m.pkl"}
    (copy / "MLmodel").write_text(yaml.safe_dump(content))
    write_manifest(copy, "served_model")
    assert "MLmodel has flavors: sklearn" in refusal(copy)


@pytest.mark.parametrize("text", ["", "[", "- a list", "flavors: {transformers: {}}", "flavors: 3"])
def test_an_mlmodel_of_another_form_is_refused(copy, text):
    (copy / "MLmodel").write_text(text)
    write_manifest(copy, "served_model")
    assert "MLmodel is no MLmodel file of Kellet" in refusal(copy)


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("a pickle ran",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytorch_model.bin", b"x"),
        ("python_model.pkl", pickle.dumps(Bomb())),
        ("modeling.py", b"raise SystemExit('code ran')"),
        ("tokenizer.model", pickle.dumps(Bomb())),
        ("weights.safetensors", b"PK\x03\x04"),
    ],
)
def test_a_pickle_or_code_is_refused_even_when_the_manifest_was_made_anew(copy, name, content):
    (copy / BASE / name).write_bytes(content)
    write_manifest(copy, "served_model")
    message = refusal(copy)
    assert f"{name} may hold code or a pickle" in message
    with pytest.raises(DataError, match="may hold code or a pickle"):
        mlflow.pyfunc.load_model(str(copy))


def test_parameters_that_are_none_are_refused(copy):
    write_json(copy / TEXT, {"tone": "warm"})
    write_manifest(copy, "served_model")
    assert "text.json cannot be read" in refusal(copy)


# In the registry: the hash of the manifest is a tag, and a row of the ledger.


@pytest.fixture
def config(tracking):
    return Config.model_validate({"tracking": tracking})


@pytest.fixture
def version(config, client, policy, tmp_path):
    experiment = client.create_experiment(config.tracking.experiment, str(tmp_path / "mlruns"))
    run = client.create_run(experiment).info.run_id
    base, trained = (
        Artefact(stage=path.name, path=path, hash=content_hash(path)) for path in (tiny.folder() / "base", policy)
    )
    tags = {"retraining_key": "a", "base_hash": "b", "policy_hash": "p", "report": str(tmp_path / "report")}
    return registry._create_version(config, run, base, trained, tags)


@pytest.mark.parametrize("part", ["base", "policy"])
def test_what_was_changed_since_it_was_made_is_not_registered(config, client, policy, tmp_path, part):
    parts = {
        name: shutil.copytree(source, tmp_path / name)
        for name, source in {"base": tiny.folder() / "base", "policy": policy}.items()
    }
    artefacts = {name: Artefact(stage=name, path=path, hash=content_hash(path)) for name, path in parts.items()}
    change_byte(next(parts[part].rglob("*.safetensors")))
    run = client.create_run(client.create_experiment(tmp_path.name, str(tmp_path / "mlruns"))).info.run_id
    with pytest.raises(DataError, match=rf"/{part} was changed while this ran"):
        registry._create_version(config, run, *artefacts.values(), {})
    assert not list((tmp_path / "mlruns").glob("**/MLmodel"))


def test_what_was_registered_is_fetched(config, version, policy):
    files = registered.fetch(version, config.tracking)
    assert (files.policy / "adapter/adapter_model.safetensors").read_bytes() == (
        policy / "adapter/adapter_model.safetensors"
    ).read_bytes()
    assert files.text == config.text
    assert registered.fetch(version, config.tracking) == files


def test_weights_changed_with_their_manifest_are_refused_by_the_tag(config, version):
    folder = registered.fetch(version, config.tracking).folder
    change_byte(folder / POLICY / "adapter/adapter_model.safetensors")
    with pytest.raises(DataError, match=r"is not what was registered: .*adapter_model\.safetensors changed"):
        registered.fetch(version, config.tracking)
    (folder / "registered_model_meta").unlink()
    write_manifest(folder, "served_model")
    with pytest.raises(DataError, match=r"manifest\.json of .*/1 is .*its files were changed since"):
        registered.fetch(version, config.tracking)


def test_a_tag_changed_too_is_refused_by_the_ledger(config, client, version, tmp_path):
    (tmp_path / "report").mkdir()
    write_json(tmp_path / "report/gate.json", {"verdict": "promote", "headline": "h", "criteria": []})
    report = Artefact(stage="report", path=tmp_path / "report", hash="")
    promotion.keep_verdict(config.tracking, version, report)
    folder = registered.fetch(version, config.tracking).folder
    change_byte(folder / POLICY / "adapter/adapter_model.safetensors")
    (folder / "registered_model_meta").unlink()
    write_manifest(folder, "served_model")
    client.set_model_version_tag(version.name, version.version, "manifest_hash", content_hash(folder / FILE))
    (changed,) = client.search_model_versions(f"name = '{version.name}'")
    with pytest.raises(InputError, match=r"the tag manifest_hash of .*/1 is .*the ledger has .*changed since"):
        registered.fetch(changed, config.tracking)
    with pytest.raises(InputError, match=r"the tag manifest_hash of .* rests on"):
        promotion.promote(config.tracking, changed)


def test_a_copy_from_another_host_is_checked_each_time(config, version, tmp_path, monkeypatch):
    """A store elsewhere is fetched once; the copy is held against the manifest whenever it is used."""
    monkeypatch.chdir(tmp_path)
    source = registered.fetch(version, config.tracking).folder
    monkeypatch.setattr(registered, "LOCAL", ())
    files = registered.fetch(version, config.tracking)
    assert files.folder.parent == Path("artifacts/registered")
    assert files.folder.resolve() != source
    shutil.rmtree(source)
    assert registered.fetch(version, config.tracking) == files
    change_byte(files.base / "config.json")
    with pytest.raises(DataError, match=r"base/config\.json changed .*; delete artifacts/registered/.* again"):
        registered.fetch(version, config.tracking)


def test_a_model_of_an_earlier_kellet_is_told_from_one_of_somebody_elses(config, client, version):
    client.delete_model_version_tag(version.name, version.version, "manifest_hash")
    (earlier,) = client.search_model_versions(f"name = '{version.name}'")
    with pytest.raises(InputError, match="an earlier Kellet registered it, whose models hold code"):
        registered.fetch(earlier, config.tracking)
    client.delete_model_version_tag(version.name, version.version, "retraining_key")
    (foreign,) = client.search_model_versions(f"name = '{version.name}'")
    with pytest.raises(InputError, match="has no tag retraining_key any more"):
        registered.fetch(foreign, config.tracking)


def test_the_verb_gets_folders_as_json(config, version, capsys, monkeypatch):
    monkeypatch.setenv("KELLET_TRACKING", config.tracking.model_dump_json())
    assert registered.main([f"{version.name}/{version.version}"]) == 0
    found = json.loads(capsys.readouterr().out)
    files = registered.fetch(version, config.tracking)
    assert found == {
        "name": f"{version.name}/1",
        "base": str(files.base),
        "policy": str(files.policy),
        "text": config.text.model_dump(mode="json"),
    }
