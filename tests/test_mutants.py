"""The table of changed lines fits the code, and what runs it tells a killed change from one that survives."""

import importlib.util
import json

import pytest

from tests.helpers.project import ROOT

spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks/mutants.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
Mutant, changed, killed, mutants, run = module.Mutant, module.changed, module.killed, module.mutants, module.run


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_changed_line_stands_where_the_table_says(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert changed(mutant, text) != text
    compile(changed(mutant, text), mutant.file, "exec")
    assert mutant.tests
    assert all((ROOT / test).is_file() for test in mutant.tests)


def test_names_are_unique():
    names = [mutant.name for mutant in mutants()]
    assert len(names) == len(set(names))


@pytest.fixture
def tree(tmp_path):
    """A clone whose test sees one of its two lines."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/code_under_test.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    (tmp_path / "clone/test_one.py").write_text(
        "import code_under_test\n\n\ndef test_one():\n    assert code_under_test.one() == 1\n"
    )
    return tmp_path / "clone"


SEEN = Mutant("one is wrong", "code_under_test.py", "return 1", "return 5", ["test_one.py"])
UNSEEN = Mutant("two is wrong", "code_under_test.py", "return 2", "return 5", ["test_one.py"])


def test_a_change_that_a_test_sees_is_killed_and_another_survives(tree, tmp_path, capsys):
    before = (tree / "code_under_test.py").read_text()
    results = tmp_path / "results.jsonl"
    assert run([SEEN, UNSEEN], tree, results) == {"one is wrong": True, "two is wrong": False}
    assert (tree / "code_under_test.py").read_text() == before
    assert capsys.readouterr().out.splitlines() == ["killed   one is wrong", "SURVIVED two is wrong"]
    (tree / "test_one.py").unlink()  # what is known is not run again
    assert run([SEEN], tree, results) == {"one is wrong": True}
    assert [json.loads(line)["killed"] for line in results.read_text().splitlines()] == [True, False]


def test_tests_that_do_not_run_kill_nothing(tree):
    with pytest.raises(RuntimeError, match="the tests did not run"):
        killed(SEEN._replace(tests=["test_none.py"]), tree)
    with pytest.raises(ValueError, match="has 2 places like 'return'"):
        killed(SEEN._replace(find="return"), tree)
