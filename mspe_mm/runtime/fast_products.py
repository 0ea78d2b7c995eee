"""Faster float32 linear layers on a CPU, as a choice of the program that runs a model.

PyTorch computes float32 matrix products by MKL, which uses at most AVX2 on processors that are not Intel's. oneDNN, which
PyTorch uses for convolutions, uses AVX-512 there too: on an AMD EPYC the linear layers of a Transformer take half the
time. On an Intel Xeon MKL uses AVX-512 itself, and oneDNN makes a ViT 1.1 to 1.5 times as slow. No model is changed: within
:func:`fast_cpu_products`, ``torch.nn.functional.linear`` is computed by oneDNN.
"""
from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from ..layers.autocast import autocast_dtype
from ..layers.cache import is_compiling, is_transformed


def fast_cpu_products(enabled: bool | None = None) -> AbstractContextManager:
    """A context in which this thread computes ``torch.nn.functional.linear``, and so every ``nn.Linear``, by :func:`linear`.

    Args:
        enabled: If False, the context changes nothing. By default it is :func:`onednn_is_faster`.
    """
    return _LinearByOneDNN() if (onednn_is_faster() if enabled is None else enabled) else nullcontext()


@cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512, MKL computes PyTorch's products, and MKL does not use AVX-512.

    The answer is by the vendor and not by a measurement, so that two runs on one machine compute the same.
    """
    return (torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == 'AVX512'
            and 'GenuineIntel' not in _processor())


def _processor() -> str:
    """A description of the processor with its vendor, such as ``GenuineIntel``."""
    cpuinfo = Path('/proc/cpuinfo')    # on Linux platform.processor() has no vendor
    return cpuinfo.read_text() if cpuinfo.is_file() else platform.processor()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, as ``torch.nn.functional.linear``, up to rounding.

    PyTorch's own function is called on other devices than a CPU, for other dtypes than float32 and under autocast. It is
    also called in compilation, export, tracing, ``torch.func`` and below a ``TorchDispatchMode``.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out).

    Returns:
        (..., out).
    """
    fits = (x.device.type == 'cpu' and x.dtype == weight.dtype == torch.float32 and weight.ndim == 2 and x.ndim > 1
            and x.numel() > 0 and type(x) is Tensor)
    if not fits or _is_observed() or autocast_dtype('cpu') is not None or not _available():
        return F.linear(x, weight, bias)
    return _OneDNNLinear.apply(x, weight, bias)


class _LinearByOneDNN(TorchFunctionMode):

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.unflatten and is_compiling():    # as a function it cannot be compiled (PyTorch 2.11)
            return args[0].unflatten(*args[1:], **kwargs)
        return (linear if func is F.linear else func)(*args, **kwargs)    # the mode is off inside this method


class _OneDNNLinear(torch.autograd.Function):
    """oneDNN's product of dense tensors, with the derivatives that PyTorch does not define for it."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        for_x, for_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if for_weight else None, weight if for_x else None)    # a frozen layer keeps no input
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        # Double backward uses PyTorch's own function, which has all derivatives.
        product = F.linear if torch.is_grad_enabled() else _product
        rows = grad.flatten(0, -2)
        return (None if weight is None else product(grad, weight.T),
                None if x is None else product(rows.T, x.flatten(0, -2).T),
                rows.sum(0) if ctx.needs_input_grad[2] else None)


def _is_observed() -> bool:
    return is_transformed() or torch._C._len_torch_dispatch_stack() > 0


def _available() -> bool:
    return torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')
