"""The verbs for people who read answers: ``kellet chat``."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kellet.cli_options import FILE, base_of, in_project, path_option, there, with_params
from kellet.errors import InputError

if TYPE_CHECKING:
    from kellet.config import Config, Text


@click.command(epilog="Example: kellet chat --policy runs/support/policy --blind --seed 1")
@with_params()
@click.option("--model", help="Registered model, NAME/VERSION or NAME@ALIAS; default: the champion of tracking.*.")
@click.option("--policy", type=FILE, help="A policy's folder, in place of a registered model.")
@path_option("--base", "with --policy: base_model.path if set, else base/ beside the policy")
@click.option("--seed", type=int, help="Sample with this seed; without it each answer is the most probable one.")
@click.option("--conversation", is_flag=True, help="Messages follow on each other; /new begins a new conversation.")
@click.option("--blind", is_flag=True, help="Hide who is who until you have said which answer is better.")
def chat(
    config: "Config",
    model: str | None,
    policy: Path | None,
    base: Path | None,
    seed: int | None,
    conversation: bool,
    blind: bool,
) -> None:
    """Ask a policy and its reference the same questions, side by side; by default the champion. Ctrl-D ends.

    Reads standard input, a message on each line, so that it works in a pipe too. A chat template of the base model's
    tokenizer, or --conversation, renders messages as a conversation.
    """
    if policy is not None and model is not None:
        raise InputError("--policy and --model both name a policy; give one of them")
    text, name = config.text, str(policy)
    if policy is None:
        policy, base, text, name = _registered(config, model)
    else:
        there(policy / "adapter", "train-policy")
        base = base or (None if config.base_model.path else policy.parent / "base")
        base = base_of(config, policy.parent, base)
    from kellet import chat as stage
    from kellet.rollout import load_policy

    trunk, tokenizer = load_policy(base, policy / "adapter")
    talking = stage.Chat(
        trunk, tokenizer, text, "policy", seed, conversation or bool(getattr(tokenizer, "chat_template", None))
    )
    if sys.stdin.isatty():
        how = "greedy" if seed is None else f"sampled with seed {seed}"
        click.echo(f"{name} beside its reference, {how}; ctrl-D ends", err=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if not blind:
        stage.talk(talking, _read, click.echo, width)
        return
    votes = stage.talk_blind(talking, _read, click.echo, width)
    click.echo(f"better: policy {votes['policy']}, reference {votes['reference']}, tie {votes['tie']}")


def _registered(config: "Config", model: str | None) -> "tuple[Path, Path, Text, str]":
    """Policy, base, text parameters and name of a registered model, as the project's registry tells them."""
    import json

    from kellet.config import Text

    wanted = model or config.tracking.registered_model
    told = json.loads(in_project("tasks.registered", wanted, "--uri", config.tracking.uri, read=True))
    return Path(told["policy"]), Path(told["base"]), Text.model_validate(told["text"]), str(told["name"])


def _read(prompt: str) -> str:
    """A line of standard input, asked for only where somebody sits there."""
    return input(prompt if sys.stdin.isatty() else "")
