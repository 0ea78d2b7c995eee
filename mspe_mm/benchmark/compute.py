"""How much arithmetic a step is, and how much of it the device could do."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..runtime.compile import without_compiling
from .timing import Step


def count_flops(step: Step) -> int | None:
    """Floating-point operations of the matrix products, convolutions and attentions of a step, two for a multiply-add.

    Returns:
        The count; None if nothing could be counted, as of compiled code before PyTorch 2.6.
    """
    with without_compiling(), FlopCounterMode(display=False, custom_mapping=_attention_on_cpu()) as counter:
        step(0)
    return counter.get_total_flops() or None


def _attention_on_cpu() -> dict:
    """The formulas that PyTorch's counter lacks: of the fused attention kernel for CPUs."""
    name = '_scaled_dot_product_flash_attention_for_cpu'
    formulas = {name: lambda q, k, v, *_, **__: _products(q, k, v),
                f'{name}_backward': lambda _, q, k, v, *__, **___: 2 * _products(q, k, v)}
    return {getattr(torch.ops.aten, op): formula for op, formula in formulas.items() if hasattr(torch.ops.aten, op)}


def _products(q: Tensor | torch.Size, k: Tensor | torch.Size, v: Tensor | torch.Size) -> int:
    """``q k^T`` and its product with v, of tensors (B, heads, L, d) or, as later versions have it, their shapes."""
    (batch, heads, queries, d), (*_, keys, _), (*_, dim) = (getattr(x, 'shape', x) for x in (q, k, v))
    return 2 * batch * heads * queries * keys * (d + dim)


def matmul(device: str, dtype: torch.dtype, size: int | None = None) -> tuple[Step, int]:
    """What the roof is measured by: one large matrix product.

    Args:
        device: Where.
        dtype: Of the matrices.
        size: Their side; by default large enough for the device to be busy.

    Returns:
        The step and its floating-point operations.
    """
    size = size or (8192 if torch.device(device).type == 'cuda' else 1024)
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    return lambda _: a @ b, 2 * size**3
