"""Resolutions and token grids as arguments of the tools, and warnings of images that leave the base grid."""
from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import is_main_process
from torch import nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed, has_patch_embed

LARGEST_SCALE = 8
"""Largest side of an image, as a multiple of the base resolution. The batch then has 64 times the pixels, and 64 times the
tokens if the grid follows the image. A kernel of 16 px becomes 128 px, whose pseudo-inverse is still fast."""

LARGEST_BUDGET = 16
"""Largest number of tokens, as a multiple of the base grid. Attention then costs 256 times as much, and position tables are
stretched four times along each side: larger grids give no useful results."""


def parse_resolution(text: str) -> list[int]:
    """The type of an argument that is a resolution: HEIGHTxWIDTH, or a height alone."""
    return _lengths(text, 'resolution', 'height in pixels, or HEIGHTxWIDTH')


def parse_grid(text: str) -> list[int]:
    """The type of an argument that is a token grid: ROWSxCOLUMNS, or a number of rows alone."""
    return _lengths(text, 'token grid', 'number of rows, or ROWSxCOLUMNS')


def _lengths(text: str, what: str, unit: str) -> list[int]:
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a {what}: give a positive {unit}')
    return [int(length) for length in text.split('x')]


def add_grid_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--token-grid`` of one grid, see :func:`forced_grid`."""
    parser.add_argument('--token-grid', type=parse_grid, metavar='N', help='token grid of every image, ROWSxCOLUMNS or a '
                        'number of rows: fewer tokens cost less; default the base grid, or what the adapter has for the '
                        'resolution')


def forced_grid(layer: MultiScalePatchEmbed, args: argparse.Namespace) -> tuple[int, int] | None:
    """(rows, columns) that ``--token-grid`` asks for; None without it.

    Raises:
        InputError: For a grid that is too large.
    """
    return full_grids([args.token_grid], layer.grid_size)[0] if args.token_grid else None


def full_sizes(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the resolutions given; a height alone gets the aspect ratio of ``base``.

    Raises:
        InputError: For a side of more than :data:`LARGEST_SCALE` times that of ``base``.
    """
    sizes = _full(given, base)
    for height, width in sizes:
        if height > LARGEST_SCALE * base[0] or width > LARGEST_SCALE * base[1]:
            raise InputError(f'the resolution {height} x {width} px is more than {LARGEST_SCALE} times the base '
                             f'resolution of {base[0]} x {base[1]} px: give at most '
                             f'{LARGEST_SCALE * base[0]}x{LARGEST_SCALE * base[1]}')
    return sizes


def full_grids(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    """(rows, columns) of the token grids given; a number of rows alone gets the aspect ratio of ``base``.

    Raises:
        InputError: For a grid of more than :data:`LARGEST_BUDGET` times the tokens of ``base``.
    """
    grids = _full(given, base)
    most = LARGEST_BUDGET * base[0] * base[1]
    for rows, columns in grids:
        if rows * columns > most:
            raise InputError(f'the token grid {rows} x {columns} has {rows * columns} tokens, more than {LARGEST_BUDGET} '
                             f'times those of the base grid of {base[0]} x {base[1]}: give at most {most}')
    return grids


def _full(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    return [(s[0], s[1] if len(s) == 2 else max(1, round(s[0] * base[1] / base[0]))) for s in given]


def warn_off_grid(layer: MultiScalePatchEmbed, resolutions: list[tuple[int, int]]) -> None:
    """Print a warning for each of the ``resolutions`` (height, width) at which a layer leaves its base grid."""
    for size in resolutions:
        grid = layer.token_grid(size)
        if tuple(grid) != layer.grid_size:
            near = [max(1, round(length / cells)) * cells for length, cells in zip(size, layer.grid_size)]
            print(f'warning: {size[0]} x {size[1]} px give {grid[0]} x {grid[1]} tokens instead of '
                  f'{layer.grid_size[0]} x {layer.grid_size[1]}: the nearest multiples of the base grid are '
                  f'{near[0]} x {near[1]} px', file=sys.stderr)


@contextmanager
def warning_off_grid(model: nn.Module) -> Iterator[None]:
    """Within the context, note the sizes of the images that a model sees; at its end, warn of those off their grid.

    At most three sizes are named, see :func:`warn_off_grid`. A model without an MSPE layer, and one of
    ``kernel_policy='constant'``, whose grid follows the image as the stock model's does, gets no warning.
    """
    if not has_patch_embed(model) or find_patch_embed(model).kernel_policy == 'constant':
        yield
        return
    layer, sizes = find_patch_embed(model), set()
    with layer.register_forward_pre_hook(lambda _, args: sizes.add(tuple(args[0].shape[-2:]))):
        yield
    off = sorted(size for size in sizes if tuple(layer.token_grid(size)) != layer.grid_for(size))
    if is_main_process():
        warn_off_grid(layer, off[:3])
        if off[3:]:
            print(f'warning: {len(off) - 3} more sizes of images leave the base grid', file=sys.stderr)
