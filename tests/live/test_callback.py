"""KelletCallback in real trainings: transformers' Trainer here, TRL's trainers where the extra 'bench' is installed."""

import json
import subprocess
import sys

import pytest

from kellet.diagnosis.history import read_history
from kellet.errors import InputError
from kellet.live import KelletCallback
from tests.helpers import processes
from tests.helpers.project import ROOT
from tests.live.training import KL_FROM, Logging, report, train


def iterations(out):
    return [row["iteration"] for row in read_history(out / "history.jsonl")]


def test_a_training_leaves_its_history_and_says_alarms_in_words(tmp_path, caplog):
    trainer, callback = train(tmp_path)
    assert trainer.state.global_step == 8
    assert callback.stopped is None
    assert iterations(tmp_path) == list(range(1, 9))
    assert read_history(tmp_path / "history.jsonl")[0]["objective/kl_k3"] == pytest.approx(1.0)
    (alarm,) = [record.getMessage() for record in caplog.records if "ALARM" in record.getMessage()]
    assert alarm.startswith(f"step {KL_FROM + 1}: ALARM kl_over_budget: KL from the reference is 20.0 nats a response")


def test_stop_on_ends_the_training_with_a_checkpoint_and_it_can_be_resumed(tmp_path):
    trainer, callback = train(tmp_path, stop_on={"kl_over_budget"})
    assert trainer.state.global_step == KL_FROM + 1
    assert callback.stopped == f"stop at step {KL_FROM + 1}: kl_over_budget, named by stop_on"
    assert (tmp_path / "checkpoints" / f"checkpoint-{KL_FROM + 1}").is_dir()
    trainer, callback = train(tmp_path, resume=True)
    assert trainer.state.global_step == 8
    assert iterations(tmp_path) == list(range(1, 9))


def test_no_checkpoint_is_forced_on_a_training_that_saves_none(tmp_path):
    train(tmp_path, stop_on={"kl_over_budget"}, save_strategy="no")
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))


def test_after_a_checkpoint_later_rows_are_replaced(tmp_path):
    train(tmp_path, steps=5)
    train(tmp_path, steps=6, resume=str(tmp_path / "checkpoints" / "checkpoint-2"))
    assert iterations(tmp_path) == list(range(1, 7))
    notes = [json.loads(line)["words"] for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
    assert "going on from step 2: 3 later rows of the history are replaced" in notes


def test_a_second_training_does_not_overwrite_the_history_of_the_first(tmp_path):
    train(tmp_path, steps=3)
    train(tmp_path, steps=2)
    assert iterations(tmp_path) == [1, 2]
    assert [row["iteration"] for row in read_history(tmp_path / "history.1.jsonl")] == [1, 2, 3]


def test_a_callback_can_be_used_again(tmp_path):
    trainer, callback = train(tmp_path, stop_on={"kl_over_budget"})
    trainer.train()
    assert callback.stopped is not None
    assert iterations(tmp_path) == list(range(1, KL_FROM + 2))
    assert [row["iteration"] for row in read_history(tmp_path / "history.1.jsonl")] == list(range(1, KL_FROM + 2))
    callback.monitor.stop_on.clear()
    trainer.train(resume_from_checkpoint=True)
    assert callback.stopped is None
    assert iterations(tmp_path) == list(range(1, 9))


def test_a_history_that_is_none_does_not_end_a_resumed_training(tmp_path, caplog):
    train(tmp_path, steps=3)
    (tmp_path / "history.jsonl").write_text("not a history\n")
    trainer, _ = train(tmp_path, steps=4, resume=str(tmp_path / "checkpoints" / "checkpoint-2"))
    assert trainer.state.global_step == 4
    assert iterations(tmp_path) == [3, 4]
    assert (tmp_path / "history.1.jsonl").read_text() == "not a history\n"
    assert len([r for r in caplog.records if "cannot be gone on with" in r.getMessage()]) == 1


def test_a_disk_that_fails_does_not_end_the_training(tmp_path, caplog):
    (tmp_path / "out").write_text("no folder can be made here")

    class Apart(Logging):
        """Keeps its checkpoints elsewhere."""

        def __init__(self, args, **named):
            args.output_dir = str(tmp_path / "elsewhere")
            super().__init__(args=args, **named)

    trainer, _ = train(tmp_path / "out", cls=Apart)
    assert trainer.state.global_step == 8
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1


def test_a_trainer_that_logs_nothing_known_is_left_alone(tmp_path, caplog):
    from transformers import Trainer

    trainer, _ = train(tmp_path, cls=Trainer)
    assert trainer.state.global_step == 8
    assert not (tmp_path / "history.jsonl").exists()
    assert len([r for r in caplog.records if "no trainer is recognised" in r.getMessage()]) == 1


def test_a_trainer_that_does_not_heed_a_stop_is_told(tmp_path, caplog):
    class Deaf(Logging):
        """Goes on, as TRL's PPOTrainer does."""

        def log(self, logs, *arguments, **named):
            super().log(logs, *arguments, **named)
            self.control.should_training_stop = self.state.global_step >= 8

    trainer, _ = train(tmp_path, cls=Deaf, stop_on={"kl_over_budget"})
    assert trainer.state.global_step == 8
    assert len([r for r in caplog.records if "goes on" in r.getMessage() and "PPOTrainer" in r.getMessage()]) == 1


def test_two_processes_stop_at_one_step_and_one_of_them_writes(tmp_path):
    assert processes.run(_two, str(tmp_path)) == [0, 0]
    ends = [json.loads((tmp_path / f"{rank}.json").read_text())["step"] for rank in (0, 1)]
    assert ends == [KL_FROM + 2, KL_FROM + 2]  # told at the end of the step after the alarm
    assert iterations(tmp_path) == list(range(1, KL_FROM + 3))


def _two(out):
    report(out, stop_on={"kl_over_budget"}, save_strategy="no")


def test_wrong_arguments_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="kl_over_budget"):
        KelletCallback(tmp_path, stop_on={"kl"})


def test_without_transformers_the_callback_says_so_and_the_rest_works(tmp_path):
    """A light install: importing transformers or torch fails."""
    script = """
import importlib.abc, importlib.util, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("torch", "transformers") else find(name, *rest)
from kellet.live import follow, Limits, Monitor
try:
    from kellet.live import KelletCallback
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "MissingExtra KelletCallback needs transformers: pip install 'kellet[train]'\n"
