"""Where a patch kernel lies on its patch, when kernels are larger than patches: where patches overlap, and with context.

A patch embedding is a convolution whose stride is the patch size, one token a patch. Where the kernel is larger (PVT v2,
SegFormer, MViT v2), patches overlap, and kernel, stride and padding have to scale together: token i at patch size ``p``
looks at the pixels

    p i - before(p)  to  p i + after(p) - 1,        kernel = before + after,        padding = before.

A pretrained kernel of ``K`` px on patches of ``p_0`` px is centred (K odd, padding K // 2). Its counterpart on patches of
``p`` px covers at least the same image area, and at least an odd kernel around the pixel at the patch's corner:

    before(p) = ceil(K // 2 * p / p_0),        after(p) = max(before(p) + 1, ceil((K - K // 2) * p / p_0)).

For K = 7 and p_0 = 4 these are the pairs of kernel and stride that MSPE's authors use for PVT v2, (3, 1), (5, 2), (7, 3) and
(7, 4) at 56, 112, 168 and 224 px; twice the base resolution has (14, 8). Without overlap, K = p_0, the kernel is the patch.

Context adds m px to both, where ``p`` is smaller than ``p_0``. It is a number of pixels of the image that is embedded. It
follows from the patch size of an axis alone, and not from the kernel that was chosen for the image: so there is one extent
for each patch size, whichever kernel is resized to it, and each axis of patches that are not square has its own.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cache import shared_constant
from .resize import least_squares_factor, resize_matrix


@dataclass(frozen=True)
class PatchGeometry:
    """Kernel, stride and padding of a patch embedding at every patch size.

    Args:
        patch_size: Patch size (stride) of the pretrained kernel, in pixels.
        kernel_size: Its extent in pixels: ``patch_size``, or an odd number above it whose padding is ``kernel_size // 2``.
        context: Pixels that kernels for patches smaller than ``patch_size`` see on each side beyond that. One number, or a
            mapping {patch size: pixels}; between its sizes that of the nearest, of two equally near that of the larger.

    Raises:
        ValueError: For a kernel that leaves pixels out, or is larger than a patch and has no centre, or for a context that
            is no number of pixels or for patches that are not smaller.
    """

    patch_size: int
    kernel_size: int
    context: int | tuple[tuple[int, int], ...] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'context', _context(self.context, self.patch_size))
        if self.kernel_size < self.patch_size or (self.overlaps and self.kernel_size % 2 == 0):
            raise ValueError(f'a kernel of {self.kernel_size} px on patches of {self.patch_size} px: it must be as large as '
                             'a patch, or larger and odd')

    @property
    def overlaps(self) -> bool:
        """Whether kernels are larger than patches."""
        return self.kernel_size != self.patch_size

    def context_at(self, patch: int) -> int:
        """Pixels of context on each side of a patch of ``patch`` px."""
        if patch >= self.patch_size:
            return 0
        if isinstance(self.context, int):
            return self.context
        return min(self.context, key=lambda entry: (abs(entry[0] - patch), -entry[0]))[1]

    def reach(self, patch: int) -> tuple[int, int]:
        """Pixels (before, from then on) that a kernel sees of an axis, counted from its patch's first pixel."""
        before, after = self.own_reach(patch)
        context = self.context_at(patch)
        return before + context, after + context

    def own_reach(self, patch: int) -> tuple[int, int]:
        """:meth:`reach` without context."""
        if not self.overlaps:
            return 0, patch
        base_before = self.kernel_size // 2
        before = _ceil_div(base_before * patch, self.patch_size)
        return before, max(before + 1, _ceil_div((self.kernel_size - base_before) * patch, self.patch_size))

    def kernel(self, patch: int) -> int:
        """Extent in pixels of a kernel on patches of ``patch`` px."""
        return sum(self.reach(patch))

    def resize(self, weight: Tensor, size: tuple[int, int], native: tuple[int, int], interpolation: str = 'bilinear',
               antialias: bool = True, correlation: float = 0.) -> Tensor:
        """PI-resize of kernels that keep their place on the patches.

        ``W' = P_h W P_w^T`` as in :func:`~mspe_mm.layers.resize.pi_resize`, but ``B`` maps between two windows in which the
        pixels of both resolutions line up, and the kernels may be parts of them: a kernel of 7 px on 4 px patches lies in
        12 px, and these are 3 px at a quarter of the resolution. Resizing 7 px straight to 3 px would stretch what it sees.

        Growing the pretrained kernel is exact (Eq. 5), ``<resize(x), w'> = <x, w>`` for every window ``x``, at whole
        multiples of the patch size, and for 7 px on 4 px patches at any size: on images, away from the padding and up to
        what resizing a whole image mixes across the window's edges. Otherwise it is the least-squares optimum for windows
        of white noise, or of pixels with ``correlation``.

        With context and ``correlation`` it is ``P = (B S B^T)^-1 B S E^T`` for each axis, with ``E`` the pixels that
        ``weight`` sees, ``S`` the covariance of the pixels around them, and ``B`` what resizing a whole image makes of these
        in the pixels that the new kernel sees: the best linear estimate of ``<x, w>`` from them (kriging). Without
        correlation, pixels beyond the patch tell nothing: there the weights of the resized pretrained kernel are zero, and
        inside they are those without context.

        Args:
            weight: (..., kernel(native[0]), kernel(native[1])), floating point.
            size: (height, width) of the patches to resize for, in pixels.
            native: (height, width) of the patches that ``weight`` is for.
            interpolation: The model by which the *images* are resized.
            antialias: Likewise.
            correlation: Of neighbouring pixels, see :func:`~mspe_mm.layers.resize.pi_resize`.

        Returns:
            (..., kernel(size[0]), kernel(size[1])) in the dtype and on the device of ``weight``, differentiable with respect
            to it; computed in float64. ``weight`` itself when the size is its own.
        """
        if tuple(size) == tuple(native):
            return weight
        # float64 is left alone by autocast, so the product keeps its precision under AMP. MPS has none.
        dtype = torch.float32 if weight.device.type == 'mps' else torch.float64
        rows, columns = (_aligned_factor(self, new, old, interpolation, antialias, correlation, weight.device, dtype)
                         for new, old in zip(size, native))
        return (rows @ weight.to(dtype) @ columns.T).to(weight.dtype)


def aligned_window(geometry: PatchGeometry, new: int, old: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest window around the kernels for two patch sizes in which whole pixels of one are whole pixels of the other.

    Returns:
        Its (before, from then on) reach in pixels at patch size ``new``, and at ``old``.
    """
    return _aligned(geometry.reach(new), geometry.reach(old), new, old)


def _aligned(new_reach: tuple[int, ...], old_reach: tuple[int, ...], new: int,
             old: int) -> tuple[tuple[int, int], tuple[int, int]]:
    common = math.gcd(new, old)
    before, after = (max(_ceil_div(n, new // common), _ceil_div(o, old // common)) for n, o in zip(new_reach, old_reach))
    return (before * new // common, after * new // common), (before * old // common, after * old // common)


@shared_constant(maxsize=1024)
def _aligned_factor(geometry: PatchGeometry, new: int, old: int, interpolation: str, antialias: bool,
                    correlation: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One axis of the resize, (kernel(new), kernel(old)): the factor of the rows and columns that the kernels cover."""
    seen, own, beyond, filter_reach = geometry.reach(new), geometry.reach(old), (0, 0), 0
    if not correlation and not geometry.context_at(old):
        # To the pretrained kernel, pixels around the patch tell nothing.
        seen, beyond = geometry.own_reach(new), (geometry.context_at(new), ) * 2
    elif geometry.context_at(new) or geometry.context_at(old):
        # As in a whole image: with all pixels that a cubic filter, the widest, mixes into those that the new kernel sees.
        filter_reach = 2 * max(1, _ceil_div(new, old))
    new_window, old_window = _aligned(tuple(side + filter_reach for side in seen), own, new, old)
    matrix = resize_matrix(sum(new_window), sum(old_window), interpolation, antialias)
    new_start, old_start = new_window[0] - seen[0], old_window[0] - own[0]
    factor = least_squares_factor(matrix[new_start:new_start + sum(seen)], correlation)[:, old_start:old_start + sum(own)]
    return F.pad(factor, (0, 0, *beyond)).contiguous().to(device, dtype)


def _context(context: Any, patch_size: int) -> int | tuple[tuple[int, int], ...]:
    """The setting as a number, or as pairs that are in order and not all of one number."""
    try:
        entries = {int(size): px for size, px in dict(context).items()} if isinstance(context, (Mapping, tuple)) else None
    except (TypeError, ValueError):
        entries = {}
    pixels = [context] if entries is None else [*entries.values()]
    if not pixels or not all(type(px) is int and px >= 0 for px in pixels) or not all(
            0 < size < patch_size for size in entries or ()):
        raise ValueError(f'context must be a number of pixels from 0, or such numbers by patch size, each below '
                         f'{patch_size} px, got {context}')
    return tuple(sorted(entries.items())) if entries and len({*pixels}) > 1 else pixels[0]


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
