"""What a judging took: requests, tokens as the server counts them, money at the prices given."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from kellet.evaluation.reply_cache import Reply

MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Of some replies."""

    replies: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    """Replies of which the server did not say how many tokens they took; they are in no figure but ``replies``."""
    price: float | None
    """In the currency of the prices; None without prices."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def in_words(self) -> str:
        """One phrase."""
        text = f"{self.replies:,} replies, {self.prompt_tokens:,} tokens asked and {self.completion_tokens:,} answered"
        if self.uncounted:
            text += f" ({self.uncounted:,} replies without a count of the server are not in these)"
        return text + ("" if self.price is None else f", {self.price:.4g} at the given prices")


def cost_of(replies: Iterable[Reply], price_prompt: float | None, price_answer: float | None) -> Cost:
    """Add up replies; prices are of a million tokens, one that is missing is zero where the other is given."""
    kept = list(replies)
    asked, answered = (
        sum(getattr(item, name) or 0 for item in kept) for name in ("prompt_tokens", "completion_tokens")
    )
    uncounted = sum(item.prompt_tokens is None or item.completion_tokens is None for item in kept)
    priced = price_prompt is not None or price_answer is not None
    price = (asked * (price_prompt or 0.0) + answered * (price_answer or 0.0)) / MILLION if priced else None
    return Cost(len(kept), asked, answered, uncounted, price)
