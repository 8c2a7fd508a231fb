"""A callback for the trainers of TRL and transformers: history, alarms in words, and a stop where one is asked for.

    trainer = GRPOTrainer(..., callbacks=[KelletCallback("runs/theirs", stop_on={"kl_over_budget"})])

Only the first process reads figures and writes. With several, each learns at the end of a step whether to stop,
by one number that they exchange, because a process that stops alone leaves the others waiting.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from kellet.data.account_table import account_text
from kellet.diagnosis.trainers import Estimator
from kellet.errors import DataError
from kellet.live.limits import Limits
from kellet.live.monitor import Monitor
from kellet.live.translate import Translator

CONFIGS = {"GRPOConfig": "trl-grpo", "RLOOConfig": "trl-rloo", "PPOConfig": "trl-ppo", "OnlineDPOConfig": "trl-ppo"}
"""Class of the trainer's arguments -> whose names it logs: RLOOTrainer's are GRPOTrainer's, but its KL is another."""
logger = logging.getLogger("kellet.live")


class KelletCallback(TrainerCallback):  # type: ignore[misc]
    """Watches a training of TRL (GRPO, RLOO, online DPO, PPO, …) or of transformers' Trainer.

    ``out`` gets history.jsonl and alarms.jsonl. ``stop_on`` names alarms that end the training, with a checkpoint where
    the trainer saves any. ``mapped`` has the trainer's metric for some of Kellet's, where its names are not known.
    Raises InputError when an argument is wrong; after that it never raises for a figure or for a disk.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        stop_on: Collection[str] = (),
        limits: Limits | None = None,
        trainer: str | None = None,
        kl_estimator: Estimator | None = None,
        mapped: Mapping[str, str] | None = None,
    ) -> None:
        translator = Translator(trainer, kl_estimator, mapped)
        self.monitor = Monitor(Path(out), translator, logger.warning, stop_on, limits)
        self._begun = False
        self._asked_at: int | None = None
        self._unheeded = False

    @property
    def stopped(self) -> str | None:
        """Why the training was asked to stop, in words."""
        return self.monitor.stopped

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Go on with the history where a checkpoint was restored, else begin one."""
        if state.is_world_process_zero:
            self._begin(args, state.global_step)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> Any:
        """Take the row; with one process, stop where an alarm says so."""
        if not state.is_world_process_zero or logs is None:
            return control
        if not self._begun:
            self._begin(args, 0)
        self.monitor.row(logs, state.global_step, **self._beta(args))
        if self.stopped and args.world_size == 1:
            self._stop(args, state, control)
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """With several processes: stop in all of them where the first one says so."""
        if self.monitor.stop_on and args.world_size > 1 and _any_process(self.stopped is not None, args.device):
            self._stop(args, state, control)
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Say what was not seen, and what each name of the log was taken for."""
        if state.is_world_process_zero and self._begun:
            logger.info("%s:\n%s", self.monitor.translator.source.title, "\n".join(account_text(self.monitor.close())))
            self._begun = False

    def _begin(self, args: Any, step: int) -> None:
        self._begun, self._asked_at, self._unheeded = True, None, False
        translator, classes = self.monitor.translator, [known.__name__ for known in type(args).__mro__]
        translator.trainer = translator.trainer or next((CONFIGS[name] for name in classes if name in CONFIGS), None)
        translator.estimator = translator.estimator or getattr(args, "kl_estimator", None)
        try:
            if step:
                self.monitor.go_on(step)
            else:
                self.monitor.begin()
        except (DataError, OSError) as error:
            self._begin_anew(error)

    def _begin_anew(self, why: Exception) -> None:
        try:
            self.monitor.begin()
        except OSError as error:
            why = error
        self.monitor.note(f"WARNING: the history of an earlier training cannot be gone on with ({why}); it begins anew")

    def _beta(self, args: Any) -> dict[str, float]:
        """β from the trainer's arguments where it is a price in units of the reward, nats per response.

        RLOO subtracts it from the reward. GRPO adds it to a loss whose rewards are divided by their spread, unless
        ``scale_rewards`` is "none"; then it has another unit and is left out.
        """
        beta, scaled = getattr(args, "beta", None), getattr(args, "scale_rewards", "none")
        if self.monitor.translator.trainer not in ("trl-grpo", "trl-rloo") or not beta or scaled not in ("none", False):
            return {}
        return {"objective/kl_coef": float(beta)}

    def _stop(self, args: Any, state: Any, control: Any) -> None:
        if self._asked_at is None:
            self._asked_at = state.global_step
        elif state.global_step > self._asked_at + 1 and not self._unheeded and state.is_world_process_zero:
            self._unheeded = True
            self.monitor.note(
                f"WARNING: the training was asked to stop at step {self._asked_at} and goes on: its trainer does not "
                "heed should_training_stop (TRL's PPOTrainer does not); end the process"
            )
        control.should_training_stop = True
        if str(getattr(args.save_strategy, "value", args.save_strategy)) != "no":
            control.should_save = True


def _any_process(flag: bool, device: Any) -> bool:
    """Whether ``flag`` is set in any process of the training; each has to ask."""
    import torch
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    shared = torch.tensor(int(flag), device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return bool(shared.item())
