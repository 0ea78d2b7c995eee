"""What a patch kernel sees beyond its patch: the image around it, and beyond the image's edge its reflection.

The kernels of patches smaller than the pretrained one reach some pixels further than the patch on each side, their context:
a patch of a small image holds few pixels, and those around it tell more about what the patch looked like at full size. How
far kernels reach is in :mod:`~mspe_mm.layers.geometry`. This module adds the pixels to the image.

The kernels are estimates for pixels that continue as photographs do, so what lies beyond an edge has to continue the image.
Zeros there double the error of the tokens at the edge. Hosts whose own patches overlap are the exception: their pretrained
kernel sees zeros there.
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
        The image with what is around it, and the zeros (vertical, horizontal) by which the convolution has to pad it on each
        side: none, or where patches overlap as far as kernels reach.

    Raises:
        ValueError: For a window that is not inside of its image.
    """
    vertical, horizontal = (geometry.reach(p)[0] for p in patch)
    if geometry.overlaps or not (vertical or horizontal):
        return x, (vertical, horizontal)
    if window is None:
        return _continued(x, (horizontal, horizontal, vertical, vertical)), (0, 0)
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
    return _continued(around, (*missing[1], *missing[0])), (0, 0)


def _continued(x: Tensor, margins: tuple[int, ...]) -> Tensor:
    """(B, C, H, W) with as many pixels on its (left, right, top, bottom) as ``margins`` says: a reflection, or in an image
    that is no larger than the margins its edge repeated."""
    if not any(margins):
        return x
    fits = max(margins[:2]) < x.shape[-1] and max(margins[2:]) < x.shape[-2]
    return F.pad(x, margins, mode='reflect' if fits else 'replicate')
