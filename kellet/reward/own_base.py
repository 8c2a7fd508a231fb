"""A reward model on a base of its own, with its own tokenizer and chat template, beside a policy on another.

The policy's answers reach it as text: decoded by the policy's tokenizer, encoded by the reward model's, prompts by its
own template. Lengths are then in the reward model's tokens, in training and in scoring alike: γ and the length slope
are fitted on them, and would be off by the ratio of the tokenizers in another unit. The gate counts the policy's.

Where both tokenizers give every token the same meaning, as sizes of one family do, tokens are passed on as they are: a
text may be encoded as other tokens than were sampled. Legend: B responses, R response tokens.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kellet.config.run import Config
from kellet.config.training import Text
from kellet.manifest import check_manifest
from kellet.models.tokens import TokenBatch, decode, encode_prompts, encode_response, pad
from kellet.models.trunk import load_base
from kellet.reward.model import Scorer, load_scorer

logger = logging.getLogger(__name__)


class Reader:
    """Turns the policy's answers into tokens of the reward model."""

    def __init__(self, policy_tokenizer: Any, tokenizer: Any, text: Text) -> None:
        self.policy_tokenizer, self.tokenizer, self.text = policy_tokenizer, tokenizer, text
        self.told = False

    def __call__(self, batch: TokenBatch, prompts: Sequence[str]) -> TokenBatch:
        """The answers of ``batch`` (B, R) to ``prompts`` (B,) in the reward model's tokens, on the CPU.

        An answer beyond ``text.max_response_tokens`` loses its end, as in training; the first time that is logged.
        """
        answers = decode(self.policy_tokenizer, batch.responses.cpu(), batch.response_mask.cpu())
        responses = [encode_response(self.tokenizer, answer, self.text) for answer in answers]
        cut = sum(response[-1] != self.tokenizer.eos_token_id for response in responses)
        if cut and not self.told:
            self.told = True
            logger.warning(
                "%d of %d answers are longer than text.max_response_tokens (%d) in the reward model's tokens; it reads "
                "them without their end",
                *(cut, len(responses), self.text.max_response_tokens),
            )
        return pad(encode_prompts(self.tokenizer, prompts, self.text), responses, self.tokenizer.pad_token_id)


def load_reward_model(
    trunk: Any,
    tokenizer: Any,
    folder: Path,
    config: Config,
    base: Path | str,
    own_base: Path | str | None = None,
    device: torch.device | None = None,
) -> tuple[Scorer, Any]:
    """The reward model of ``folder``, and the tokenizer that it reads with.

    Its adapters join the policy's ``trunk`` on ``base``, unless ``own_base`` is another: that is loaded for it, in the
    number format of ``base_model``. Raises DataError when the reward model was made of another base, ConfigError when
    its base cannot be loaded.
    """
    if own_base is None or str(own_base) == str(base):
        check_manifest(folder, base=base)
        return load_scorer(trunk, folder, tokenizer.eos_token_id), tokenizer
    check_manifest(folder, base=own_base)
    own, own_tokenizer = load_base(own_base, config.base_model, device)
    scorer = load_scorer(own, folder, own_tokenizer.eos_token_id)
    scorer.owns_trunk = True
    if not same_tokens(tokenizer, own_tokenizer):
        scorer.reread = Reader(tokenizer, own_tokenizer, config.text)
    return scorer, own_tokenizer


def same_tokens(one: Any, other: Any) -> bool:
    """Whether both tokenizers encode a prompt and an answer as the same tokens of the same meaning."""

    def of(tokenizer: Any) -> tuple[Any, ...]:
        template = getattr(tokenizer, "chat_template", None)
        return tokenizer.get_vocab(), tokenizer.bos_token_id, tokenizer.eos_token_id, template

    return of(one) == of(other)
