"""Positions of tokens: learned tables resampled to another grid, sinusoids, relative positions.

Grids are (rows, columns); tokens are in row-major order.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .cache import shared_constant

POSITIONS = ('learned', 'sinusoidal', 'relative')


def resample_positions(table: Tensor, grid: tuple[int, int], table_grid: tuple[int, int] | None = None, *,
                       extra_tokens: int = 0, interpolation: str = 'bicubic') -> Tensor:
    """An absolute table on another grid.

    Args:
        table: (1, extra_tokens + P, D), the positions of the patches last.
        grid: (rows, columns) wanted.
        table_grid: (rows, columns) of the table, P = rows * columns; a square by default.
        extra_tokens: Positions before those of the patches (a class token's), which are dropped. ViTDet's published
            tables have one: 197 = 1 + 14 * 14.
        interpolation: ``'bicubic'``, as in ViTDet, or ``'bilinear'``.

    Returns:
        (1, rows, columns, D); the table's own values, unchanged, if ``grid`` is its own grid.

    Raises:
        ValueError: If the number of positions is not that of the grid.
    """
    table = table[:, extra_tokens:]
    positions = table.shape[1]
    rows, columns = table_grid or (math.isqrt(positions), ) * 2
    if rows * columns != positions:
        raise ValueError(f'a table of {positions} positions is not a {rows} x {columns} grid: give its table_grid, and the '
                         'number of extra_tokens before it')
    table = table.unflatten(1, (rows, columns))
    if (rows, columns) == tuple(grid):
        return table
    resampled = F.interpolate(table.permute(0, 3, 1, 2), tuple(grid), mode=interpolation, align_corners=False)
    return resampled.permute(0, 2, 3, 1)


def sinusoidal_positions(length: int, dim: int) -> Tensor:
    """Sinusoids of the position (RIViT, section 3.3.2): ``sin(pos / 10000^(i / dim))`` for even i, ``cos`` for odd i.

    Vaswani et al. give the cosine the frequency of the sine before it, i - 1; the report's formula is followed here.

    Args:
        length: Number of positions, counted from 0.
        dim: Width of the tokens.

    Returns:
        (length, dim), float64, on the CPU.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    channel = torch.arange(dim, dtype=torch.float64)
    angles = position * 10000.**(-channel / dim)
    return torch.where(channel.long() % 2 == 0, angles.sin(), angles.cos())


@shared_constant(maxsize=32)
def sinusoids(length: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """:func:`sinusoidal_positions` on a device and in a dtype, computed once."""
    return sinusoidal_positions(length, dim).to(device, dtype)


def relative_positions(table: Tensor, length: int) -> Tensor:
    """One axis of decomposed relative position, gathered for every pair of a query and a key (MViTv2, ViTDet).

    Args:
        table: (2 n - 1, d), one vector for each offset -(n - 1) .. n - 1 of a query from a key on an axis of n tokens.
        length: Tokens of the axis wanted; a table for another n is resampled linearly to 2 * length - 1 offsets.

    Returns:
        (length, length, d): entry [i, j] belongs to query i and key j, whose offset is i - j.
    """
    offsets = 2 * length - 1
    if table.shape[0] != offsets:
        table = F.interpolate(table.T[None], offsets, mode='linear')[0].T
    index = torch.arange(length, device=table.device)
    return table[index[:, None] - index[None, :] + length - 1]


def clipped_relative_positions(table: Tensor, length: int) -> Tensor:
    """One axis of relative position, gathered for every pair; larger offsets are clipped (Shaw et al., Eq. 4).

    Args:
        table: (2 n - 1, d), one vector for each offset -(n - 1) .. n - 1 of a query from a key.
        length: Tokens of the axis.

    Returns:
        (length, length, d): entry [i, j] belongs to query i and key j, whose offset i - j is clipped to the table's.
    """
    farthest = (table.shape[0] - 1) // 2
    index = torch.arange(length, device=table.device)
    return table[(index[:, None] - index[None, :]).clamp(-farthest, farthest) + farthest]
