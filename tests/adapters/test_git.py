"""Git's answers, its errors, and neither of them where git or the repository is missing."""

import pytest

from adapters.git import git, git_or_empty
from kellet.errors import KelletError


def test_an_answer_or_an_error_with_gits_own_message(tmp_path):
    git("init", "--quiet", cwd=tmp_path)
    assert git("rev-parse", "--is-inside-work-tree", cwd=tmp_path) == "true"
    with pytest.raises(KelletError, match=r"git checkout nowhere failed:\nerror: pathspec 'nowhere' did not match"):
        git("checkout", "nowhere", cwd=tmp_path)


def test_without_a_repository_or_without_git_the_answer_may_be_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_or_empty("rev-parse", "HEAD") == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_or_empty("--version") == ""
