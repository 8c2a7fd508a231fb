"""A cache of keys and values with room for what is still to come.

transformers' grows by concatenation: every token copies all before it, so memory traffic is quadratic in the length.
Here a token is written into its place. Layers that keep only a window or a state of their own are left as they are.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer


def preallocate(cache: Any, tokens: int) -> Any:
    """``cache`` after its first pass, its plain layers with room for ``tokens`` tokens in all."""
    for layer in getattr(cache, "layers", []):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layer.__class__ = PreallocatedLayer
            layer.make_room(tokens)
    return cache


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """``keys`` and ``values`` (B, heads, T, width) are the filled part of tensors that are longer."""

    keys: Tensor
    values: Tensor

    def make_room(self, tokens: int) -> None:
        """Move what is there into tensors for ``tokens`` tokens."""
        self.filled = self.keys.shape[-2]
        self.room = [self._longer(part, tokens) for part in (self.keys, self.values)]
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add the tokens; give back all."""
        before, self.filled = self.filled, self.filled + key_states.shape[-2]
        if self.filled > self.room[0].shape[-2]:
            self.room = [self._longer(part, 2 * self.filled) for part in self.room]
        for part, states in zip(self.room, (key_states, value_states), strict=True):
            part[..., before : self.filled, :] = states
        self._show()
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep these rows, in this order."""
        self.room = [part.index_select(0, beam_idx.to(part.device)) for part in self.room]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (part[..., : self.filled, :] for part in self.room)

    @staticmethod
    def _longer(part: Tensor, tokens: int) -> Tensor:
        longer = part.new_empty((*part.shape[:-2], max(tokens, part.shape[-2]), part.shape[-1]))
        longer[..., : part.shape[-2], :] = part
        return longer
