"""Counting the floating-point operations of a model."""
from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..runtime.compilation import without_compiling


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of ``run()``: matrix products, convolutions and attention; a multiply-add counts as two.

    The count is 0 if nothing could be observed, as in code that was compiled before PyTorch 2.6.
    """
    with without_compiling(), FlopCounterMode(display=False, custom_mapping=_missing_formulas()) as counter:
        run()
    return counter.get_total_flops()


def _missing_formulas() -> dict:
    """Operations that PyTorch's counter does not know: fused attention on a CPU (absent from 2.1) and oneDNN's products."""
    attention = '_scaled_dot_product_flash_attention_for_cpu'
    formulas = {attention: lambda q, k, v, *_, **__: _attention(q, k, v),
                f'{attention}_backward': lambda _, q, k, v, *__, **___: 2 * _attention(q, k, v)}
    mapping = {getattr(torch.ops.aten, op): formula for op, formula in formulas.items() if hasattr(torch.ops.aten, op)}
    if torch.backends.mkldnn.is_available():
        mapping[torch.ops.mkldnn._linear_pointwise] = lambda x, weight, *_, **__: _linear(x, weight)
    return mapping


def _attention(q: Tensor | torch.Size, k: Tensor | torch.Size, v: Tensor | torch.Size) -> int:
    """``q k^T`` and its product with v, of shape (B, heads, L, d). PyTorch passes shapes, early versions tensors."""
    (batch, heads, queries, d), (*_, keys, _), (*_, dim) = (getattr(x, 'shape', x) for x in (q, k, v))
    return 2 * batch * heads * queries * keys * (d + dim)


def _linear(x: Tensor | torch.Size, weight: Tensor | torch.Size) -> int:
    """``x weight^T``, of shapes (..., in) and (out, in); arguments as for :func:`_attention`."""
    (*rows, inputs), (outputs, _) = (getattr(tensor, 'shape', tensor) for tensor in (x, weight))
    return 2 * math.prod(rows) * inputs * outputs
