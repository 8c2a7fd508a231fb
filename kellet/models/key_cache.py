"""A preallocated cache of keys and values.

The cache of transformers grows by concatenation: every token copies all before it, so memory traffic is quadratic in
the length. Here a token is written into its place. Layers that keep a window or a recurrent state are left as they are.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer


def preallocate(cache: Any, tokens: int) -> Any:
    """``cache`` after its first pass, with space for ``tokens`` tokens in all in its plain layers."""
    for layer in getattr(cache, "layers", []):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layer.__class__ = PreallocatedLayer
            layer.allocate(tokens)
    return cache


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """``keys`` and ``values`` (B, heads, T, width) are the filled parts of longer tensors, ``storage``."""

    keys: Tensor
    values: Tensor

    def allocate(self, tokens: int) -> None:
        """Copy the tokens so far into tensors for ``tokens`` tokens."""
        self.filled = self.keys.shape[-2]
        self.storage = [self._longer(part, tokens) for part in (self.keys, self.values)]
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the tokens; return keys and values of all."""
        before, self.filled = self.filled, self.filled + key_states.shape[-2]
        if self.filled > self.storage[0].shape[-2]:
            self.storage = [self._longer(part, 2 * self.filled) for part in self.storage]
        for part, states in zip(self.storage, (key_states, value_states), strict=True):
            part[..., before : self.filled, :] = states
        self._show()
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep these rows, in this order."""
        self.storage = [part.index_select(0, beam_idx.to(part.device)) for part in self.storage]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (part[..., : self.filled, :] for part in self.storage)

    @staticmethod
    def _longer(part: Tensor, tokens: int) -> Tensor:
        longer = part.new_empty((*part.shape[:-2], max(tokens, part.shape[-2]), part.shape[-1]))
        longer[..., : part.shape[-2], :] = part
        return longer
