"""How much arithmetic a step is, and how much of it the device could do."""
from __future__ import annotations

import torch

from ..evaluation import flops
from ..runtime.fast_products import linear
from .timing import Step


def count_flops(step: Step) -> int | None:
    """Floating-point operations of the matrix products, convolutions and attentions of a step, two for a multiply-add.

    Returns:
        The count; None if nothing could be counted, as of compiled code before PyTorch 2.6.
    """
    return flops.count_flops(lambda: step(0)) or None


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
    return lambda _: linear(a, b), 2 * size**3
