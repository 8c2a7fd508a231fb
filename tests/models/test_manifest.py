"""A trained folder knows what it was made of: beside another base, or with a byte changed, it is refused by name."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.config.file import dump_config
from kellet.config.training import Lora
from kellet.errors import DataError
from kellet.evaluation.evaluate import Models, evaluate
from kellet.evaluation.file import read_evaluation
from kellet.gate import decide
from kellet.manifest import check_manifest, write_manifest
from kellet.models.base_model import train_base
from kellet.models.export import export
from kellet.models.sampling import load_policy
from kellet.models.trunk import add_adapter, load_base, save_adapter
from kellet.policy.train import train_policy
from kellet.reward.rescore import rescore
from kellet.reward.train import train_reward
from tests.helpers import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A reward model and a policy, as training writes them, on the tiny base."""
    root = tmp_path_factory.mktemp("trained")
    config = tiny.config(policy={"iterations": 1})
    preferences, base = tiny.folder() / "preferences.parquet", tiny.folder() / "base"
    train_reward(config, preferences, base, root / "reward_model")
    train_policy(config, preferences, base, root / "reward_model", root / "policy")
    return root


@pytest.fixture(params=["tokenizer_config.json", "model.safetensors", "chat_template.jinja"])
def other(request, tmp_path):
    """The same base with one file changed in one place, or one more."""
    folder = tiny.foreign_base(tmp_path / "other")
    file = folder / request.param
    if file.suffix == ".json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    elif file.suffix == ".jinja":
        file.write_text("{{ messages[0].content }}")
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    return folder, request.param


def test_what_was_trained_passes_beside_its_own(trained):
    check_manifest(trained / "reward_model", base=tiny.folder() / "base")
    check_manifest(trained / "policy", base=tiny.folder() / "base", reward_model=trained / "reward_model")


def test_beside_another_base_everything_that_reads_it_refuses(trained, other, tmp_path):
    base, changed = other
    preferences, config = tiny.folder() / "preferences.parquet", tiny.config()
    models = Models(base, trained / "reward_model", trained / "policy")
    answers = tmp_path / "answers.parquet"
    pd.DataFrame({"prompt": ["a"], "response": ["b"]}).to_parquet(answers)
    readers = [
        lambda: train_policy(config, preferences, base, trained / "reward_model", tmp_path / "out"),
        lambda: evaluate(config, preferences, models, tmp_path / "out"),
        lambda: rescore(config, base, trained / "reward_model", {"one": answers}, tmp_path / "out"),
        lambda: load_policy(base, trained / "policy" / "adapter"),
        lambda: export(base, trained / "policy", tmp_path / "out"),
    ]
    for read in readers:
        with pytest.raises(DataError, match=rf"was made of another base than .*differ in {changed}"):
            read()
    assert not (tmp_path / "out").exists()


def test_a_policy_is_not_evaluated_by_another_reward_model(trained, tmp_path):
    shutil.copytree(trained / "reward_model", tmp_path / "reward_model")
    train_reward(tiny.config(seed=5), tiny.folder() / "preferences.parquet", tiny.folder() / "base", tmp_path / "other")
    models = Models(tiny.folder() / "base", tmp_path / "other", trained / "policy")
    with pytest.raises(DataError, match="policy was made of another reward model than"):
        evaluate(tiny.config(), tiny.folder() / "preferences.parquet", models, tmp_path / "out")
    check_manifest(trained / "policy", reward_model=tmp_path / "reward_model")  # a copy elsewhere is the same


def test_a_byte_changed_anywhere_is_named(trained, tmp_path):
    manifest = json.loads((trained / "policy" / "manifest.json").read_text())
    assert {"adapter/adapter_model.safetensors", "value_head.safetensors", "history.jsonl"} <= set(manifest["files"])
    for name in manifest["files"]:
        shutil.copytree(trained / "policy", tmp_path / "policy")
        content = bytearray((tmp_path / "policy" / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "policy" / name).write_bytes(content)
        with pytest.raises(DataError, match=f"is not what was written: {name} changed or missing"):
            check_manifest(tmp_path / "policy")
        (tmp_path / "policy" / name).unlink()
        with pytest.raises(DataError, match=f"is not what was written: {name} changed or missing"):
            check_manifest(tmp_path / "policy")
        shutil.rmtree(tmp_path / "policy")


def test_a_file_that_would_decide_is_not_added(trained, tmp_path):
    base = shutil.copytree(tiny.folder() / "base", tmp_path / "base")
    (base / "notes.txt").write_text("mine")  # decides nothing
    load_base(base)
    (base / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(DataError, match=r"base is not what was written: chat_template\.jinja was added"):
        load_base(base)


def test_what_comes_from_elsewhere_is_said_to_be_unchecked(tmp_path, caplog):
    save_adapter(add_adapter(tiny.base()[0], Lora(rank=2), 0), tmp_path / "policy" / "adapter")
    check_manifest(tmp_path / "policy", base=tiny.folder() / "base")
    assert "has no manifest.json: that it belongs to this base cannot be checked" in caplog.text


def test_a_hub_name_is_compared_with_a_hub_name_alone(tmp_path, caplog):
    (tmp_path / "a").write_text("1")
    write_manifest(tmp_path, "policy", base="owner/model")
    check_manifest(tmp_path, base="owner/model")
    assert caplog.text == ""
    check_manifest(tmp_path, base=tiny.folder() / "base")
    assert "cannot be checked" in caplog.text
    with pytest.raises(DataError, match="was made of another base than owner/other: they differ in name"):
        check_manifest(tmp_path, base="owner/other")


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3, "made_of": {}}', '{"files": {}}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        check_manifest(tmp_path)


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    """A run's folder as the verbs leave it, base and gate.json included."""
    run = tmp_path_factory.mktemp("run")
    shutil.copytree(trained, run, dirs_exist_ok=True)
    shutil.copytree(tiny.folder() / "base", run / "base")
    models = Models(run / "base", run / "reward_model", run / "policy")
    evaluate(tiny.config(), tiny.folder() / "preferences.parquet", models, run / "evaluation")
    decide(read_evaluation(run / "evaluation/evaluation.parquet"), tiny.config().gate).write(run / "gate.json")
    return run


@pytest.fixture
def run(evaluated, tmp_path):
    return shutil.copytree(evaluated, tmp_path / "run")


READERS = {
    "gate": lambda run: ["gate", "--run", run],
    "diagnose": lambda run: ["diagnose", "--run", run],
    "report": lambda run: ["report", "--run", run],
    "spot-check": lambda run: ["spot-check", "export", "--run", run, "--out", f"{run}/s.csv", "--key", f"{run}/k.json"],
    "export": lambda run: ["export", "--run", run],
    "evaluate": lambda run: ["evaluate", "--run", run, "--preferences", str(tiny.folder() / "preferences.parquet")],
}
READS = {
    "evaluation/evaluation.parquet": ("gate", "diagnose", "report", "spot-check"),
    "evaluation/token_kl.json": ("report",),
    "policy/history.jsonl": ("diagnose", "report", "evaluate", "export"),
    "policy/adapter/adapter_model.safetensors": ("evaluate", "export"),
    "reward_model/card.json": ("gate", "diagnose", "report", "evaluate"),
    "reward_model/reward_model.json": ("evaluate",),
    "base/model.safetensors": ("evaluate", "export"),
    "base/tokenizer.json": ("evaluate", "export"),
}


def change_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def said(verb, run):
    """What a verb says on the run's folder; its parameters are those that all was made with."""
    params = run / "given.yaml"
    params.write_text(dump_config(tiny.config()), encoding="utf-8")
    done = CliRunner().invoke(main, [*READERS[verb](str(run)), "--params", str(params)])
    return done.exit_code, done.stderr


@pytest.mark.parametrize("name", READS)
def test_every_verb_that_reads_a_changed_file_names_it(run, name):
    change_byte(run / name)
    for verb in READS[name]:
        code, line = said(verb, run)
        assert code == 2, (verb, line)
        (told,) = [text for text in line.splitlines() if text.startswith("error: ")]
        assert "is not what was written" in told, verb
        assert name.split("/")[-1] in told, verb
        assert line.endswith(f"{told}\n"), verb


def test_verbs_read_what_was_not_changed(run):
    for verb in ("gate", "diagnose", "report", "spot-check"):
        code, line = said(verb, run)
        assert code in (0, 3), (verb, line)


@pytest.mark.parametrize("part", ["policy", "reward_model"])
def test_an_evaluation_is_not_read_beside_others_than_it_was_made_by(run, tmp_path, part):
    """Trained again since, with another seed."""
    preferences, base, config = tiny.folder() / "preferences.parquet", run / "base", tiny.config(seed=5)
    if part == "policy":
        train_policy(config, preferences, base, run / "reward_model", tmp_path / "policy")
    else:
        train_reward(config, preferences, base, tmp_path / "reward_model")
    shutil.rmtree(run / part)
    shutil.copytree(tmp_path / part, run / part)
    for verb in ("gate", "diagnose", "report") if part == "reward_model" else ("diagnose", "report"):
        code, line = said(verb, run)
        assert code == 2, verb
        assert f"evaluation was made of another {part.replace('_', ' ')} than {run / part}" in line, verb


def test_parts_of_two_bases_are_refused_on_the_command_line(run, tmp_path):
    """A reward model on base A, a policy on base B, an evaluation on A."""
    preferences, other = tiny.folder() / "preferences.parquet", tmp_path / "other"
    train_base(tiny.config(seed=9), preferences, other)
    train_reward(tiny.config(), preferences, other, tmp_path / "reward")
    train_policy(tiny.config(policy={"iterations": 1}), preferences, other, tmp_path / "reward", tmp_path / "policy")
    shutil.rmtree(run / "policy")
    shutil.copytree(tmp_path / "policy", run / "policy")
    for verb in ("evaluate", "export"):
        code, line = said(verb, run)
        assert code == 2
        assert "policy was made of another base than" in line
    code, line = said("diagnose", run)
    assert code == 2
    assert "evaluation was made of another policy than" in line
    params = tmp_path / "given.yaml"
    params.write_text(dump_config(tiny.config()), encoding="utf-8")
    where = ["--params", str(params), "--preferences", str(preferences), "--out", str(tmp_path / "out")]
    mixed = ["train-policy", "--base", str(other), "--reward-model", str(run / "reward_model"), *where]
    done = CliRunner().invoke(main, mixed)
    assert done.exit_code == 2
    assert "reward_model was made of another base than" in done.stderr


def test_a_verb_that_writes_a_file_anew_says_so_in_the_manifest(run, tmp_path):
    """A run that a flow published has one manifest for all of its files."""
    published = tmp_path / "published"
    published.mkdir()
    for name in ("evaluation/evaluation.parquet", "evaluation/token_kl.json", "policy/history.jsonl", "gate.json"):
        shutil.copy(run / name, published)
    shutil.copy(run / "reward_model/card.json", published)
    for name in ("diagnosis.json", "report.html"):
        (published / name).write_text("{}")
    write_manifest(published, "report")
    for verb in ("diagnose", "report", "diagnose", "report"):
        code, line = said(verb, published)
        assert code == 0, line
    check_manifest(published)
    change_byte(published / "gate.json")
    assert "gate.json" in said("report", published)[1]
