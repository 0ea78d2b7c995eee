"""The roof: the largest number of floating-point operations per second that the device computes."""
from __future__ import annotations

import torch
import torch.nn.functional as F

from ..runtime.fast_products import linear, onednn_is_faster
from .timing import Step


def matmul(device: str, dtype: torch.dtype, size: int | None = None) -> tuple[Step, int]:
    """One large matrix product, whose speed is the roof.

    Args:
        device: Device of the product.
        dtype: dtype of the matrices.
        size: Number of rows and columns; by default large enough to keep the device busy.

    Returns:
        The step and its number of floating-point operations.
    """
    size = size or (8192 if torch.device(device).type == 'cuda' else 1024)
    a, b = torch.rand(2, size, size, device=device).to(dtype)
    product = linear if onednn_is_faster() else F.linear
    return lambda _: product(a, b), 2 * size**3
