"""Parameters: what is refused and with which words, files that extend files, overrides, the round trip."""

import json
import math
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from kellet.config.file import check_base_path, dump_config, known_keys, load_config
from kellet.config.run import Config
from kellet.errors import ConfigError
from tests.helpers.project import ROOT


def write(folder, text, name="params.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_gives_the_defaults(tmp_path):
    assert load_config(write(tmp_path, "")) == Config()


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("policy: {kl: {taget: 3}}", "policy.kl.target"),
        ("reward_model: {length_contol: none}", "reward_model.length_control"),
        ("polcy: {iterations: 3}", "policy"),
        ("gate: {kl_bugdet: 3}", "gate.kl_budget"),
        ("kl: {target: 3}", "policy.kl"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(tmp_path, written, nearest):
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        load_config(write(tmp_path, written))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.kl.target=0", "greater than 0, got 0"),
        ("policy.kl.target=-3", "greater than 0, got -3"),
        ("policy.kl.target=.nan", "policy.kl.target"),
        ("policy.learning_rate=.inf", "policy.learning_rate"),
        ("policy.minibatch_size=48", "multiple of minibatch_size"),
        ("base_model.width=100", "multiple of 2 \\* heads"),
        ("text.prompt_template=hello", "{prompt}"),
        ("gate.judge_margin=0.5", "judge_margin"),
        ("gate.required=[speed]", "gate.required"),
        ("data.validation.longer_preferred_warn=[0.05, 0.65]", "band inside"),
        ("policy.kl.controller=sometimes", "sometimes"),
        ("data.files=[]", "data.files"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, ""), (override,))


@pytest.mark.parametrize("key", ["name", "data.name", "tracking.registered_model"])
@pytest.mark.parametrize("value", ["../docs", ".git", "a/b", "/etc/x", "", "a b", "-a", "..", "a" * 201, "a\n"])
def test_a_name_is_no_path_elsewhere(tmp_path, key, value):
    """A run's folder is replaced whole: a name that leads out of runs/ would take others' files with it."""
    with pytest.raises(ConfigError, match=rf"{key}: String should"):
        load_config(write(tmp_path, ""), (f"{key}={json.dumps(value)}",))


@pytest.mark.parametrize("value", ["support", "a", "v1.2_x-3", "2026-11", "čaj"])
def test_ordinary_names_are_names(tmp_path, value):
    assert load_config(write(tmp_path, ""), (f"name={json.dumps(value)}",)).name == value


def test_an_override_wins_over_the_file_and_is_read_as_yaml(tmp_path):
    path = write(tmp_path, "policy: {iterations: 5}\n")
    config = load_config(path, ("policy.iterations=7", "base_model.path=null", "gate.required=[reward_gain]", "seed=2"))
    assert (config.policy.iterations, config.base_model.path, config.seed) == (7, None, 2)
    assert config.gate.required == ("reward_gain",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.iterations", "section.key=value"),
        ("=3", "section.key=value"),
        ("policy.iterations=[1", "not valid YAML"),
        ("name.first=x", "name is a value"),
        ("policy.itertions=3", "did you mean 'policy.iterations'"),
    ],
)
def test_what_set_cannot_read_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "name: here"), (override,))


def test_extends_merges_sections_and_takes_data_whole(tmp_path):
    write(
        tmp_path,
        "seed: 3\npolicy: {iterations: 5, kl: {target: 2}}\ndata: {world: {prompts: 700, length_bias: 0.5}}\n",
        "under.yaml",
    )
    over = write(
        tmp_path, "extends: under.yaml\npolicy: {kl: {horizon: 50}}\ndata: {world: {prompts: 600}}\n", "o.yaml"
    )
    config = load_config(over)
    assert (config.seed, config.policy.iterations) == (3, 5)
    assert (config.policy.kl.target, config.policy.kl.horizon) == (2, 50)
    assert config.data.world.prompts == 600
    assert config.data.world.length_bias == 1.0  # the default: nothing of the other file's data is left


def test_data_that_is_not_given_is_taken_over(tmp_path):
    write(tmp_path, "data: {name: other, world: {prompts: 700}}\n", "under.yaml")
    config = load_config(write(tmp_path, "extends: under.yaml\nseed: 1\n"))
    assert (config.data.name, config.data.world.prompts) == ("other", 700)


def test_extends_is_relative_to_the_file_and_may_go_on(tmp_path):
    (tmp_path / "profiles").mkdir()
    write(tmp_path, "seed: 9\n", "params.yaml")
    write(tmp_path, "extends: ../params.yaml\nname: middle\n", "profiles/middle.yaml")
    config = load_config(write(tmp_path, "extends: middle.yaml\n", "profiles/top.yaml"))
    assert (config.seed, config.name) == (9, "middle")


def test_a_circle_of_extends_is_refused(tmp_path):
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load_config(write(tmp_path, "extends: self.yaml\n", "self.yaml"))


@pytest.mark.parametrize(("text", "message"), [("- 1\n", "got list"), ("a: [", "not valid YAML")])
def test_a_file_of_another_shape_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        load_config(tmp_path / "latin.yaml")


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_loads_and_has_a_name_and_model_of_its_own(profile):
    config = load_config(profile)
    others = [load_config(other) for other in (ROOT / "profiles").glob("*.yaml") if other != profile]
    assert config.name not in {other.name for other in others}
    if config.name != "naive":  # which is tried on the champion of the default
        assert config.tracking.registered_model not in {other.tracking.registered_model for other in others}


def test_what_is_dumped_loads_as_the_same(tmp_path):
    config = load_config(
        write(tmp_path, "name: čaj\n"), ("policy.kl.controller=fixed", "data.files=[a.csv, b.csv]", "seed=4")
    )
    dumped = write(tmp_path, dump_config(config), "dumped.yaml")
    assert load_config(dumped) == config
    assert dump_config(load_config(dumped)) == dumped.read_text(encoding="utf-8")


def test_a_configuration_is_frozen():
    with pytest.raises(ValidationError):
        Config().policy.kl.target = 1.0


def test_every_known_key_can_be_reached():
    dumped = Config().model_dump()
    for key in known_keys():
        value = dumped
        for part in key.split("."):
            value = value[part]
        assert not (isinstance(value, float) and math.isnan(value))
    assert {"policy.kl.target", "data.world.length_bias", "reward_model.lora.rank"} <= set(known_keys())


def of(path):
    return Config.model_validate({"base_model": {"path": path}})


def test_a_base_path_is_a_model_folder_a_hub_name_or_nothing(tmp_path):
    check_base_path(Config())
    check_base_path(of("someone/some-model"))
    (tmp_path / "config.json").write_text("{}")
    check_base_path(of(str(tmp_path)))


def test_a_base_path_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json"):
        check_base_path(of(str(tmp_path)))
    for path in (str(tmp_path / "absent"), "./absent", "absent", "a/b/c"):
        with pytest.raises(ConfigError, match="does not exist"):
            check_base_path(of(path))


def test_a_typo_among_built_in_parameters_names_no_file():
    with pytest.raises(ConfigError, match=r"^unknown parameter 'gate\.lenght_bandwidth'; did you mean 'gate\.length"):
        load_config(Path(os.devnull), ("gate.lenght_bandwidth=0.3",))
