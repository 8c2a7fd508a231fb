"""Ctrl-C in a real terminal: one line, exit code 130, nothing lost, nothing left running.

A child process, a training in steps, a stage without steps, and (last test) a policy that saves. All six stages were
tried by hand; each costs a start of Prefect.
"""

import sqlite3

import pytest

from tests.helpers import project
from tests.helpers.terminal import Terminal

MOMENTS = (
    "dvc: > python -m kellet prepare",
    "reward_model: computing",
    "evaluation: computing",
)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A project in which Ctrl-C was typed at each moment; (root, what each command ended with)."""
    root = project.copy_project(tmp_path_factory.mktemp("interrupted") / "kellet")
    ends = {}
    for moment in MOMENTS:
        terminal = Terminal(root, *project.SMOKE)
        terminal.wait_for(moment)
        ends[moment] = terminal.interrupt()
    return root, ends


@pytest.mark.parametrize("moment", MOMENTS)
def test_one_line_and_130(interrupted, moment):
    code, said, _ = interrupted[1][moment]
    assert code == 130, said
    assert "Traceback" not in said
    assert said.count("stopped by Ctrl-C; the same command goes on from here") == 1
    assert len(said.splitlines()) < 12, said


def test_no_run_is_left_running_and_the_slot_is_free(interrupted):
    root, _ = interrupted
    with sqlite3.connect(root / ".prefect/prefect.db") as database:
        states = dict(database.execute("select state_type, count(*) from flow_run group by 1"))
        (slots,) = database.execute("select active_slots from concurrency_limit_v2 where name = 'retrain'").fetchone()
    database.close()
    assert states == {"CRASHED": len(MOMENTS)}
    assert slots == 0


def test_the_same_command_completes_it(interrupted):
    root, _ = interrupted
    done = project.run(root, *project.SMOKE)
    assert done.returncode in {0, 3}, done.stdout
    assert (root / "runs/smoke/report.html").is_file()


def test_a_training_saves_before_it_stops(interrupted):
    """The policy goes on from the iteration in which it was interrupted, not from the beginning."""
    root, _ = interrupted
    more = ("--set", "policy.iterations=4000", "--set", "policy.checkpoint_every=9999", "--set", "name=longer")
    terminal = Terminal(root, *project.SMOKE, *more)
    terminal.wait_for("/4000, objective")  # the first line of progress, after ten seconds
    code, said, _ = terminal.interrupt()
    assert code == 130, said
    (checkpoint,) = (root / "artifacts/policy").glob("*.checkpoints/*")
    assert 1 <= int(checkpoint.name) < 4000
