"""Prompts and responses as tensors.

Legend: B rows, Q query tokens, R response tokens, T = Q + R. A row is [left padding, query, response, right padding],
so that every response begins at column Q. ``response_mask`` (B, R): True = this response token counts, the end of
sequence included. ``attention_mask`` (B, T): True = not padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kellet.config import Text


class Batch(NamedTuple):
    """Queries with their responses, padded."""

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
        return (self.attention_mask.long().cumsum(1) - 1).clamp(min=0)

    def closed(self, eos_token_id: int) -> "Batch":
        """The same with end of sequence as every response's last token, also where it was cut at the limit."""
        last = self.input_ids.shape[1] - self.response_mask.shape[1] + self.response_mask.sum(1) - 1
        ids = self.input_ids.clone()
        ids[torch.arange(len(ids)), last] = eos_token_id
        return self._replace(input_ids=ids)

    def rows(self, index: Tensor) -> "Batch":
        """The rows of ``index``, without columns that are padding in all of them."""
        attention, response = self.attention_mask[index], self.response_mask[index]
        query = attention.shape[1] - response.shape[1]
        first = int(attention.any(0).int().argmax())
        longest = max(int(response.sum(1).max()), 1)
        columns = slice(min(first, query - 1), query + longest)
        return Batch(self.input_ids[index][:, columns], attention[:, columns], response[:, :longest])


def encode_prompt(tokenizer: Any, prompt: str, text: Text) -> list[int]:
    """Token ids of the query; a long one loses its beginning, because what was asked last matters most."""
    ids = _ids(tokenizer, text.prompt_template.format(prompt=prompt))
    if tokenizer.bos_token_id is not None:
        return [tokenizer.bos_token_id, *ids[-(text.max_prompt_tokens - 1) :]]
    return ids[-text.max_prompt_tokens :]


def encode_response(tokenizer: Any, response: str, text: Text) -> list[int]:
    """Token ids of a written response with its end of sequence; a long one loses its end and has no end of sequence."""
    ids = _ids(tokenizer, response)
    return [*ids, tokenizer.eos_token_id][: text.max_response_tokens]


def _ids(tokenizer: Any, text: str) -> list[int]:
    # Data may spell "<eos>"; that is text, not the end of the sequence.
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def pad(queries: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Pad queries on the left and responses on the right."""
    query_width = max(len(query) for query in queries)
    response_width = max(1, max(len(response) for response in responses))
    shape = (len(queries), query_width + response_width)
    ids, mask = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.bool)
    for row, (query, response) in enumerate(zip(queries, responses, strict=True)):
        columns = slice(query_width - len(query), query_width + len(response))
        ids[row, columns] = torch.tensor([*query, *response])
        mask[row, columns] = True
    return Batch(ids, mask, mask[:, query_width:])


def decode(tokenizer: Any, ids: Tensor, response_mask: Tensor) -> list[str]:
    """Texts of responses (B, R), special tokens left out."""
    rows = [row[kept].tolist() for row, kept in zip(ids, response_mask, strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
