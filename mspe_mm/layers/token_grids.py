"""Token grids beside the base grid: names of their kernels, and which grid an image of a resolution has.

A kernel of k px on a grid of N tokens is native to the resolution k N. On a coarser grid it embeds smaller images, whose
patches cover more of the scene. So the kernels of a grid are its own: pairs of a resolution and a grid.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

Size = tuple[int, int]


def kernel_name(size: int, grid: Size | None = None) -> str:
    """The parameter name of the kernel of ``size`` px: ``'8'``, and on a ``grid`` of its own ``'8g6x10'``."""
    return str(size) if grid is None else f'{size}g{grid[0]}x{grid[1]}'


def native_size(name: str) -> int:
    """Native patch size in pixels of a kernel, from its :func:`kernel_name`."""
    return int(name.partition('g')[0])


def grid_pairs(grids: Iterable[Any]) -> list[Size]:
    """Token grids as pairs (rows, columns); a number alone is both.

    Raises:
        ValueError: For what is no grid.
    """
    pairs = [(grid, grid) if isinstance(grid, int) else tuple(grid) for grid in grids]
    if not all(len(pair) == 2 and all(type(tokens) is int and tokens > 0 for tokens in pair) for pair in pairs):
        raise ValueError(f'token_grids must be positive numbers of tokens, got {pairs}')
    return cast('list[Size]', pairs)


def check_own_grids(grids: Sequence[Size], base: Size, kernel_policy: str) -> None:
    """Raise a ValueError if a layer of the grid ``base`` cannot have kernels for ``grids``."""
    if base in grids or len({*grids}) < len(grids):
        raise ValueError(f'token_grids must be different grids beside the base grid of {base[0]} x {base[1]}, got {grids}')
    if grids and kernel_policy != 'fixed':
        raise ValueError(f"token_grids need kernel_policy='fixed', which puts a grid on an image, got {kernel_policy!r}")


def nearest_grid(image_size: Size, budgets: Mapping[Size, Size]) -> Size:
    """The grid of the resolution in ``budgets`` that is nearest to ``image_size``; of two equally near, the larger.

    Args:
        image_size: (height, width) in pixels.
        budgets: The grid (rows, columns) of each resolution (height, width); at least one.
    """
    def distance(resolution: Size) -> tuple[int, int]:
        return sum((own - other)**2 for own, other in zip(resolution, image_size)), -resolution[0] * resolution[1]

    return budgets[min(budgets, key=distance)]
