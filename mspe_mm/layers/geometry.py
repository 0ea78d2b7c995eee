"""Where a patch kernel lies on its patch, when kernels are larger than patches (PVT v2, SegFormer, MViT v2).

A patch embedding is a convolution whose stride is the patch size, one token a patch. Where the kernel is larger, patches
overlap, and kernel, stride and padding have to scale together: token i at patch size ``p`` looks at the pixels

    p i - before(p)  to  p i + after(p) - 1,        kernel = before + after,        padding = before.

A pretrained kernel of ``K`` px on patches of ``p_0`` px is centred (K odd, padding K // 2). Its counterpart on patches of
``p`` px covers at least the same image area, and at least an odd kernel around the pixel at the patch's corner:

    before(p) = ceil(K // 2 * p / p_0),        after(p) = max(before(p) + 1, ceil((K - K // 2) * p / p_0)).

For K = 7 and p_0 = 4 these are the pairs of kernel and stride that MSPE's authors use for PVT v2, (3, 1), (5, 2), (7, 3) and
(7, 4) at 56, 112, 168 and 224 px; twice the base resolution has (14, 8). Without overlap, K = p_0, the kernel is the patch.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .cache import shared_constant
from .resize import least_squares_factor, resize_matrix


@dataclass(frozen=True)
class PatchGeometry:
    """Kernel, stride and padding of a patch embedding at every patch size.

    Args:
        patch_size: Patch size (stride) of the pretrained kernel, in pixels.
        kernel_size: Its extent in pixels: ``patch_size``, or an odd number above it whose padding is ``kernel_size // 2``.

    Raises:
        ValueError: For a kernel that leaves pixels out, or is larger than a patch and has no centre.
    """

    patch_size: int
    kernel_size: int

    def __post_init__(self) -> None:
        if self.kernel_size < self.patch_size or (self.overlaps and self.kernel_size % 2 == 0):
            raise ValueError(f'a kernel of {self.kernel_size} px on patches of {self.patch_size} px: it must be as large as '
                             'a patch, or larger and odd')

    @property
    def overlaps(self) -> bool:
        """Whether kernels are larger than patches."""
        return self.kernel_size != self.patch_size

    def reach(self, patch: int) -> tuple[int, int]:
        """Pixels (before, from then on) that a kernel sees of an axis, counted from its patch's first pixel."""
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
        rows, columns = (_aligned_factor(self, new, old, interpolation, antialias, correlation, weight.device)
                         for new, old in zip(size, native))
        # float64 is left alone by autocast, so the product keeps its precision under AMP.
        return (rows @ weight.double() @ columns.T).to(weight.dtype)


def aligned_window(geometry: PatchGeometry, new: int, old: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The smallest window around the kernels for two patch sizes in which whole pixels of one are whole pixels of the other.

    Returns:
        Its (before, from then on) reach in pixels at patch size ``new``, and at ``old``.
    """
    common = math.gcd(new, old)
    before, after = (max(_ceil_div(n, new // common), _ceil_div(o, old // common))
                     for n, o in zip(geometry.reach(new), geometry.reach(old)))
    return (before * new // common, after * new // common), (before * old // common, after * old // common)


@shared_constant(maxsize=1024)
def _aligned_factor(geometry: PatchGeometry, new: int, old: int, interpolation: str, antialias: bool,
                    correlation: float, device: torch.device) -> Tensor:
    """One axis of the resize, (kernel(new), kernel(old)): the factor of the rows and columns that the kernels cover."""
    new_window, old_window = aligned_window(geometry, new, old)
    new_start, old_start = (window[0] - geometry.reach(patch)[0]
                            for window, patch in ((new_window, new), (old_window, old)))
    matrix = resize_matrix(sum(new_window), sum(old_window), interpolation, antialias)
    seen = matrix[new_start:new_start + geometry.kernel(new)]
    factor = least_squares_factor(seen, correlation)[:, old_start:old_start + geometry.kernel(old)]
    return factor.contiguous().to(device)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
