"""Prompts and responses as tensors.

Legend: B rows, Q query tokens, R response tokens, T = Q + R. A row is [left padding, query, response, right padding],
so that every response begins at column Q. ``response_mask`` (B, R): True = this response token counts, the end of
sequence included. ``attention_mask`` (B, T): True = not padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kellet.config.training import Text
from kellet.data.conversation import as_text, messages_of
from kellet.errors import DataError
from kellet.models.chat_template import render


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


def encode_prompt(tokenizer: Any, prompt: str, text: Text, whole: bool = True) -> list[int]:
    """Token ids of the query; a long one loses its beginning, because the last question matters most.

    A conversation (kellet/data/conversation.py) is rendered with the tokenizer's chat template, which replaces
    ``text.prompt_template``; without a template it is written out. Raises DataError when the template refuses it or,
    with ``whole``, leaves out what a message says (kellet/models/chat_template.py).
    """
    if getattr(tokenizer, "chat_template", None) and messages_of(prompt) is not None:
        ids = list(tokenizer(render(tokenizer, prompt, whole), add_special_tokens=False)["input_ids"])
        if ids[:1] != [tokenizer.bos_token_id]:  # the template decides whether a query begins with one
            return ids[-text.max_prompt_tokens :]
        ids = ids[1:]
    else:
        ids = _ids(tokenizer, text.prompt_template.format(prompt=as_text(prompt)))
    if tokenizer.bos_token_id is not None:
        kept = min(len(ids), text.max_prompt_tokens - 1)  # 0 with a limit of one token, and ids[-0:] would be all
        return [tokenizer.bos_token_id, *ids[len(ids) - kept :]]
    return ids[-text.max_prompt_tokens :]


def encode_prompts(tokenizer: Any, prompts: Sequence[str], text: Text, whole: bool = True) -> list[list[int]]:
    """:func:`encode_prompt` of each. Raises DataError that counts those that cannot be encoded and names the first."""
    queries: list[list[int]] = []
    refused: list[tuple[int, DataError]] = []
    for number, prompt in enumerate(prompts, 1):
        try:
            queries.append(encode_prompt(tokenizer, prompt, text, whole))
        except DataError as error:
            refused.append((number, error))
    if refused:
        number, first = refused[0]
        raise DataError(
            f"{len(refused)} of {len(prompts)} prompts cannot be encoded; number {number}: {first}"
        ) from first
    return queries


def encode_response(tokenizer: Any, response: str, text: Text) -> list[int]:
    """Token ids of a written response with its end of sequence; a long one loses its end and has no end of sequence."""
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
    """Texts of responses (B, R), special tokens left out."""
    rows = [row[kept].tolist() for row, kept in zip(ids, response_mask, strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
