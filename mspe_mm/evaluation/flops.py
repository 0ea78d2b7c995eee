"""Counting the arithmetic of a model."""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..runtime.compilation import without_compiling


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention in ``run()``; a multiply-add is two."""
    with without_compiling(), FlopCounterMode(display=False, custom_mapping=_missing_formulas()) as counter:
        run()
    return counter.get_total_flops()


def _missing_formulas() -> dict:
    """What PyTorch's counter would leave out: fused attention on CPUs, of which 2.1 has none, and oneDNN's products."""
    attention = '_scaled_dot_product_flash_attention_for_cpu'
    formulas = {attention: lambda q, k, v, *_, **__: _attention(q, k, v),
                f'{attention}_backward': lambda _, q, k, v, *__, **___: 2 * _attention(q, k, v)}
    mapping = {getattr(torch.ops.aten, op): formula for op, formula in formulas.items() if hasattr(torch.ops.aten, op)}
    if torch.backends.mkldnn.is_available():
        mapping[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: _linear(x, weight)
    return mapping


def _attention(q: Tensor | torch.Size, k: Tensor | torch.Size, v: Tensor | torch.Size) -> int:
    """``q k^T`` and its product with v, of tensors (B, heads, L, d) or, as later versions have it, their shapes."""
    (batch, heads, queries, d), (*_, keys, _), (*_, dim) = (getattr(x, 'shape', x) for x in (q, k, v))
    return 2 * batch * heads * queries * keys * (d + dim)


def _linear(x: Tensor | torch.Size, weight: Tensor | torch.Size) -> int:
    """``x weight^T``, of (..., in) and (out, in), likewise."""
    (*rows, inputs), (outputs, _) = (getattr(tensor, 'shape', tensor) for tensor in (x, weight))
    return 2 * math.prod(rows) * inputs * outputs
