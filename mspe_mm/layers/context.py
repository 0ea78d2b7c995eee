"""What a patch kernel sees beyond its patch: the image around it, and zeros beyond the image's edge.

The kernels of patches smaller than the pretrained one reach some pixels further than the patch on each side, their context:
a patch of a small image holds few pixels, and those around it tell more about what the patch looked like at full size. How
far kernels reach is in :mod:`~mspe_mm.layers.geometry`. This module adds the pixels to the image.
"""
from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .geometry import PatchGeometry


class Window(NamedTuple):
    """Where in an image a window was cut out.

    Attributes:
        image: (B, C, H, W), as the model sees it.
        top: Row of the window's first pixel.
        left: Its column.
    """

    image: Tensor
    top: int
    left: int


def with_context(x: Tensor, geometry: PatchGeometry, patch: tuple[int, int],
                 window: Window | None = None) -> tuple[Tensor, tuple[int, int]]:
    """An image with what the kernels for its patches see around it.

    Args:
        x: (B, C, H, W).
        geometry: How far the kernels reach.
        patch: (height, width) of the patches in pixels.
        window: Of which ``x`` is cut out. Context is the image around ``x``, as far as there is one.

    Returns:
        The image, with what is around a window, and the zeros (vertical, horizontal) by which the convolution has to pad it
        on each side.

    Raises:
        ValueError: For a window that is not inside of its image.
    """
    vertical, horizontal = (geometry.reach(p)[0] for p in patch)
    if window is None or geometry.overlaps or not (vertical or horizontal):
        return x, (vertical, horizontal)
    image, places = window.image, (window.top, window.left)
    if any(not 0 <= place <= length - size for place, length, size in zip(places, image.shape[-2:], x.shape[-2:])):
        raise ValueError(f'a window of {x.shape[-2]} x {x.shape[-1]} px at row {window.top} and column {window.left} is not '
                         f'inside of an image of {image.shape[-2]} x {image.shape[-1]} px')
    found, missing = [], []
    for place, size, length, context in zip(places, x.shape[-2:], image.shape[-2:], (vertical, horizontal)):
        first, last = place - context, place + size + context
        found.append(slice(max(first, 0), min(last, length)))
        missing.append((max(-first, 0), max(last - length, 0)))
    around = image[:, :, found[0], found[1]].to(x.dtype)
    return F.pad(around, (*missing[1], *missing[0])), (0, 0)
