"""Cutting a token grid into windows and putting it together again (Swin, ViTDet)."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, D) into windows (B * windows, size, size, D); the last row and column are padded with zeros."""
    height, width = x.shape[1:3]
    if height % size or width % size:
        # No negative numbers: ONNX truncates a quotient where Python rounds it down.
        x = F.pad(x, (0, 0, 0, (size - width % size) % size, 0, (size - height % size) % size))
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))
    return x.transpose(2, 3).flatten(0, 2)


def from_windows(windows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put windows (B * windows, size, size, D) together to (B, *grid, D), with their padding removed."""
    size = windows.shape[1]
    rows, columns = (grid[0] + size - 1) // size, (grid[1] + size - 1) // size
    x = windows.unflatten(0, (-1, rows, columns)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return x[:, :grid[0], :grid[1]]
