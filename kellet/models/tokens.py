"""Prompts and responses as tensors.

Legend: B rows, Q query tokens, R response tokens, T = Q + R. A row is [left padding, query, response, right padding],
so that every response begins at column Q. ``response_mask`` (B, R): True = this response token counts, the end of
sequence included. ``attention_mask`` (B, T): True = not padding.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kellet.config.training import Text
from kellet.data.conversation import as_text, from_text, messages_of, to_prompt
from kellet.errors import ConfigError, DataError
from kellet.models.long_prompt import conversation_ids

ENDS = "kellet_ends"
"""The attribute of a tokenizer that holds :func:`end_tokens`."""
logger = logging.getLogger(__name__)


class TokenBatch(NamedTuple):
    """Padded queries with their responses."""

    input_ids: Tensor
    """(B, T) int64."""
    attention_mask: Tensor
    """(B, T) bool."""
    response_mask: Tensor
    """(B, R) bool."""

    @property
    def responses(self) -> Tensor:
        """(B, R) int64."""
        return self.input_ids[:, -self.response_mask.shape[1] :]

    @property
    def position_ids(self) -> Tensor:
        """(B, T) int64: 0 at the first token that is not padding."""
        return positions(self.attention_mask)

    def to(self, device: torch.device) -> "TokenBatch":
        """A copy on ``device``."""
        return TokenBatch(*(tensor.to(device) for tensor in self))

    def closed(self, eos_token_id: int) -> "TokenBatch":
        """A copy in which every response ends with end of sequence, also where it was cut off at the limit."""
        last = self.input_ids.shape[1] - self.response_mask.shape[1] + self.response_mask.sum(1) - 1
        ids = self.input_ids.clone()
        ids[torch.arange(len(ids), device=ids.device), last] = eos_token_id
        return self._replace(input_ids=ids)

    def rows(self, index: Tensor) -> "TokenBatch":
        """The rows of ``index``, without columns that are padding in all of them."""
        attention, response = self.attention_mask[index], self.response_mask[index]
        query = attention.shape[1] - response.shape[1]
        first = int(attention.any(0).int().argmax())
        longest = max(int(response.sum(1).max()), 1)
        columns = slice(min(first, query - 1), query + longest)
        return TokenBatch(self.input_ids[index][:, columns], attention[:, columns], response[:, :longest])

    def tight(self) -> tuple[Tensor, Tensor]:
        """Ids and attention mask (B, longest row) of the same tokens with all padding on the left, the least possible.

        Prompts padded on the left and responses on the right are as wide as the longest prompt and response together.
        """
        order = self.attention_mask.int().argsort(dim=1, stable=True)  # padding first, then the tokens in order
        columns = order[:, -int(self.attention_mask.sum(1).max()) :]
        return self.input_ids.gather(1, columns), self.attention_mask.gather(1, columns)

    def length_groups(self, tokens: int, rows: int | None = None) -> list[Tensor]:
        """Partition the rows into groups of similar length; the indices (n,) of each.

        A group has at most ``rows`` rows where that is given, else at most ``tokens`` tokens, padding included, and at
        least one row.
        """
        length = self.attention_mask.sum(1)
        order = length.argsort(stable=True)
        if rows is not None:
            return list(order.split(rows))
        parts, begin = [], 0
        for end, longest in enumerate(length[order].tolist(), 1):
            if end - begin > 1 and (end - begin) * longest > tokens:
                parts.append(order[begin : end - 1])
                begin = end - 1
        return [*parts, order[begin:]]


def positions(attention_mask: Tensor) -> Tensor:
    """(B, T) int64 of a mask (B, T): 0 at the first token that is not padding."""
    return (attention_mask.long().cumsum(1) - 1).clamp(min=0)


class Query(NamedTuple):
    """A prompt in tokens."""

    ids: list[int]
    cut: bool
    """Whether it was longer than ``text.max_prompt_tokens`` and lost something."""


def encode_query(tokenizer: Any, prompt: str, text: Text, whole: bool = True) -> Query:
    """The tokens of a prompt; a long one loses its beginning, because the last question matters most.

    A conversation (kellet/data/conversation.py), and with ``text.chat`` any prompt, is rendered with the tokenizer's
    chat template, which replaces ``text.prompt_template``; a long one loses old turns (kellet/models/long_prompt.py).
    Other text is written by ``text.prompt_template`` after what the tokenizer itself puts in front, and loses the rest
    of its beginning. Raises DataError when the template refuses it or, with ``whole``, leaves out what a message says
    (kellet/models/chat_template.py), and when there is nothing to continue; ConfigError where ``text.chat`` finds no
    template.
    """
    conversation = messages_of(prompt) is not None
    template = getattr(tokenizer, "chat_template", None)
    if text.chat and not template:
        raise ConfigError(
            "text.chat is true and the tokenizer has no chat template; take a base with one, or set it to false"
        )
    if template and (conversation or text.chat):
        stored = prompt if conversation else to_prompt(from_text(prompt) or [{"role": "user", "content": prompt}])
        return Query(*conversation_ids(tokenizer, stored, text.max_prompt_tokens, whole))
    ids = _ids(tokenizer, text.prompt_template.format(prompt=as_text(prompt)))
    front = beginning(tokenizer)[: text.max_prompt_tokens]
    kept = min(len(ids), text.max_prompt_tokens - len(front))  # may be 0, and ids[-0:] would be all
    if not front and not kept:
        raise DataError("the prompt is empty and the tokenizer puts nothing in front: there is nothing to continue")
    return Query([*front, *ids[len(ids) - kept :]], kept < len(ids))


@lru_cache(maxsize=16)
def beginning(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer itself puts in front of a text: Llama's beginning of sequence; of Qwen's and GPT-2's nothing.

    That a tokenizer knows a ``bos_token`` does not say that its model was trained on texts that begin with it. Small
    bases that Kellet trained before its tokenizers did so themselves were.
    """
    own = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    if all(getattr(tokenizer, name, None) == token for name, token in own.items()) and tokenizer.eos_token_id == 2:
        return (int(tokenizer.bos_token_id),)
    bare, full = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    starts = (place for place in range(len(full)) if bare and full[place : place + len(bare)] == bare)
    return tuple(full[: next(starts, 0 if bare else len(full))])


def end_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a response (kellet/models/architecture.py); the first is what written responses get."""
    return getattr(tokenizer, ENDS, (tokenizer.eos_token_id,))


def encode_prompt(tokenizer: Any, prompt: str, text: Text, whole: bool = True) -> list[int]:
    """The tokens of :func:`encode_query`."""
    return encode_query(tokenizer, prompt, text, whole).ids


def encode_prompts(tokenizer: Any, prompts: Sequence[str], text: Text, whole: bool = True) -> list[list[int]]:
    """The tokens of :func:`encode_queries`."""
    return [query.ids for query in encode_queries(tokenizer, prompts, text, whole)]


def encode_queries(tokenizer: Any, prompts: Sequence[str], text: Text, whole: bool = True) -> list[Query]:
    """:func:`encode_query` of each. Raises DataError that counts those that cannot be encoded and names the first."""
    queries: list[Query] = []
    refused: list[tuple[int, DataError]] = []
    for number, prompt in enumerate(prompts, 1):
        try:
            queries.append(encode_query(tokenizer, prompt, text, whole))
        except DataError as error:
            refused.append((number, error))
    if refused:
        number, first = refused[0]
        raise DataError(
            f"{len(refused)} of {len(prompts)} prompts cannot be encoded; number {number}: {first}"
        ) from first
    return queries


def tell_cut(cut: int, total: int, what: Literal["prompts", "responses"], text: Text, whose: str) -> None:
    """Warn of the share of ``what`` that lost something at its limit. Raises DataError beyond the bound of ``text``.

    ``whose`` says where they come from.
    """
    name = f"text.max_{what[:-1]}_tokens"
    limit, bound = (
        (text.max_prompt_tokens, text.max_cut_prompts)
        if what == "prompts"
        else (text.max_response_tokens, text.max_cut_responses)
    )
    if not cut:
        return
    told = f"{cut:,} of {total:,} {what} ({cut / total:.0%}) of {whose} are longer than {name} ({limit})"
    if cut > bound * total:
        raise DataError(f"{told}, more than text.max_cut_{what} ({bound:g}) allows; raise one of the two")
    logger.warning("%s and lose their %s", told, "beginning" if what == "prompts" else "end")


def encode_response(tokenizer: Any, response: str, text: Text) -> list[int]:
    """Token ids of a written response with its end; a long one loses its last tokens and has no end."""
    ids = _ids(tokenizer, response)
    return [*ids, tokenizer.eos_token_id][: text.max_response_tokens]


def _ids(tokenizer: Any, text: str) -> list[int]:
    # "<eos>" in the data is text, not the end of the sequence
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def pad(queries: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> TokenBatch:
    """Pad queries on the left and responses on the right."""
    query_width = max(len(query) for query in queries)
    response_width = max(1, max(len(response) for response in responses))
    shape = (len(queries), query_width + response_width)
    ids, mask = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.bool)
    for row, (query, response) in enumerate(zip(queries, responses, strict=True)):
        columns = slice(query_width - len(query), query_width + len(response))
        ids[row, columns] = torch.tensor([*query, *response])
        mask[row, columns] = True
    return TokenBatch(ids, mask, mask[:, query_width:])


def join(batches: Sequence[TokenBatch], pad_id: int) -> TokenBatch:
    """The rows of all ``batches``, padded to the longest query and the longest response."""
    response = max(batch.response_mask.shape[1] for batch in batches)
    query = max(batch.input_ids.shape[1] - batch.response_mask.shape[1] for batch in batches)

    def wider(tensor: Tensor, batch: TokenBatch, value: int) -> Tensor:
        width = batch.response_mask.shape[1]
        left = query - (batch.input_ids.shape[1] - width) if tensor.shape[1] > width else 0
        return torch.nn.functional.pad(tensor, (left, response - width), value=value)

    return TokenBatch(
        *(
            torch.cat([wider(batch[number], batch, value) for batch in batches])
            for number, value in enumerate((pad_id, 0, 0))
        )
    )


def decode(tokenizer: Any, ids: Tensor, response_mask: Tensor) -> list[str]:
    """Texts of responses (B, R), the token that ends them and special tokens left out."""
    ends = end_tokens(tokenizer)
    rows = [row[kept].tolist() for row, kept in zip(ids, response_mask, strict=True)]
    rows = [row[:-1] if row and row[-1] in ends else row for row in rows]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
