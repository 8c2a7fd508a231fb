"""What a person confirms is kept in the section data of a parameter file, and nothing else of it changes."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.config.file import load_config
from kellet.config.keep import as_yaml, keep_data
from kellet.errors import ConfigError, InputError

FILE = """\
# who this is for
name: mine # a comment

data: # all of it
  name: mine
  source: files
  files: [data/raw/mine.csv] # one file
  columns:
    prompt: old
    # a comment inside
  # before the split
  split: {validation: 0.2, test: 0.15}

policy:
  iterations: 3
"""
WORDS = st.text(alphabet="abc é:#'\"{}[],-0", min_size=1, max_size=8)


def test_keys_are_set_and_all_other_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    keep_data(path, {"columns": {"prompt": "question"}, "preferred_values": {"0": "b", "1": "a"}})
    text = path.read_text()
    data = load_config(path).data
    assert data.columns == {"prompt": "question"}
    assert data.preferred_values == {"0": "b", "1": "a"}
    assert data.split.validation == 0.2
    left = [line for line in FILE.splitlines() if "prompt: old" not in line and line.strip() != "columns:"]
    kept = [line for line in text.splitlines() if line in left]
    assert kept == [line for line in left if line in kept]
    assert {"# who this is for", "name: mine # a comment", "data: # all of it", "  # before the split"} <= set(kept)


@given(
    values=st.dictionaries(WORDS, st.sampled_from("ab"), min_size=1, max_size=3), ignored=st.lists(WORDS, max_size=3)
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_kept_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, str], ignored: list[str]
) -> None:
    path = tmp_path_factory.mktemp("keep") / "mine.yaml"
    path.write_text(FILE)
    kept = {"preferred_values": values, "ignored": ignored}
    keep_data(path, kept)
    keep_data(path, kept)
    read = yaml.safe_load(path.read_text())
    before = yaml.safe_load(FILE)
    assert read == {**before, "data": {**before["data"], **kept}}


@pytest.mark.parametrize("text", ["extends: params.yaml\nname: x\n", "data: {name: x}\n", ""])
def test_a_file_without_a_section_of_its_own_stays_and_the_lines_are_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"add this where the section stands:\ndata:\n  prompt_from: beginning"):
        keep_data(path, {"prompt_from": "beginning"})
    assert path.read_text() == text


def test_a_missing_file_is_an_error_and_the_lines_are_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read parameters"):
        keep_data(tmp_path / "none.yaml", {"prompt_from": "beginning"})
    assert yaml.safe_load(as_yaml({"columns": {"prompt": "q: x"}})) == {"data": {"columns": {"prompt": "q: x"}}}
