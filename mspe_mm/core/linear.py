"""Linear layers whose float32 products on a CPU are oneDNN's.

PyTorch hands such products to MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN, which PyTorch brings
along for convolutions, does not: on an AMD EPYC the linear layers of a Transformer take half the time.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from .cache import is_compiling
from .precision import autocast_dtype


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, as PyTorch's function of that name, up to rounding.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out).

    Returns:
        (..., out).
    """
    if is_compiling() or x.device.type != 'cpu' or autocast_dtype('cpu') is not None:
        return F.linear(x, weight, bias)
    available = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if not available or not x.dtype == weight.dtype == torch.float32 or x.ndim == 1 or x.numel() == 0:
        return F.linear(x, weight, bias)
    return _OneDNNLinear.apply(x, weight, bias)


class Linear(nn.Linear):
    """``nn.Linear`` by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def adopt_linears(module: nn.Module) -> None:
    """Make every ``nn.Linear`` inside ``module`` a :class:`Linear`, in place."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            child.__class__ = Linear    # as torch.nn.utils.parametrize does it: parameters, names and hooks stay


class _OneDNNLinear(torch.autograd.Function):
    """oneDNN's product of dense tensors, with the derivatives that PyTorch does not define for it."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for_x, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if for_weight else None, weight if for_x else None)    # of a frozen layer no input is kept
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        return (None if weight is None else _product(grad, weight.T),
                None if x is None else _product(rows.T, x.flatten(0, -2).T),
                rows.sum(0) if ctx.needs_input_grad[2] else None)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')
