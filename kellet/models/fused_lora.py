"""LoRA's linear layer with sums in place: the same numbers as peft's, with fewer passes over memory.

    y = x Wᵀ + b + s (x Aᵀ) Bᵀ                                                  Hu et al. 2021, arXiv:2106.09685, eq. 3
    ∂x = ∂y W + s (∂y B) A      ∂A = s (∂y B)ᵀ x      ∂B = s ∂yᵀ (x Aᵀ)          W and b are frozen

Where the base is in half precision all products are, as under autocast; A, B and their gradients stay in float32.
peft forms s (x Aᵀ) Bᵀ and each of its gradients as separate tensors and adds them. Legend: N tokens, I inputs, O
outputs of the layer, r rank; x (N, I), W (O, I), A (r, I), B (O, r), scaling s.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn


def fuse(model: Any) -> Any:
    """``model`` with every plain linear LoRA layer of peft computed by :class:`FusedLinear`."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear:
            module.__class__ = FusedLinear
    return model


class FusedLinear(Linear):  # type: ignore[misc]
    """peft's layer; whatever is not plain LoRA (two adapters, dropout, autocast) is left to peft's forward."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(…, O) of (…, I)."""
        name = self._plain(x)
        if name is None or args or kwargs:
            by_peft: Tensor = super().forward(x, *args, **kwargs)
            return by_peft
        base, low, high = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        fused: Tensor = _LowRank.apply(x, base.weight, base.bias, low, high, self.scaling[name])  # type: ignore[no-untyped-call]
        return fused

    def _plain(self, x: Tensor) -> str | None:
        """The active adapter if the equation above is all of its computation; else None."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        name = str(self.active_adapters[0])
        if name not in self.lora_A or name in self.lora_variant or self.lora_B[name].bias is not None:
            return None
        drops = self.training and not isinstance(self.lora_dropout[name], nn.Identity)
        same = x.dtype == self.base_layer.weight.dtype
        if not x.is_meta and torch.is_autocast_enabled(x.device.type):
            return None
        return name if same and not drops and not self.base_layer.weight.requires_grad else None


class _LowRank(torch.autograd.Function):
    """The equations of this module."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        """(…, O)."""
        flat = x.reshape(-1, x.shape[-1])
        a_cast, b_cast = a.to(x.dtype), b.to(x.dtype)
        low = flat @ a_cast.T
        y = nn.functional.linear(flat, w, bias).addmm_(low, b_cast.T, alpha=scaling)
        ctx.save_for_backward(flat, low, w, a_cast, b_cast)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, a.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, Tensor | None, Tensor | None, None]:
        """Gradients of x, A and B."""
        flat, low, w, a, b = ctx.saved_tensors
        above = grad.reshape(-1, grad.shape[-1])
        back = (above @ b).mul_(ctx.scaling)
        grad_x = (above @ w).addmm_(back, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        grad_a = back.T @ flat if ctx.needs_input_grad[3] else None
        grad_b = (low.T @ above).T.contiguous().mul_(ctx.scaling) if ctx.needs_input_grad[4] else None
        grad_a, grad_b = (None if part is None else part.to(ctx.dtype) for part in (grad_a, grad_b))
        return grad_x, None, None, grad_a, grad_b, None
