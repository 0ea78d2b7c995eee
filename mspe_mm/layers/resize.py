"""Resizing as a linear map: of images, and of the patch kernels that look at them (PI-resize).

Resizing a patch ``x`` is linear, ``vec(resize(x)) = B vec(x)``, and separable, ``B = B_h (x) B_w``. A patch kernel ``w``
made for ``x`` is carried over to the resized patch by ``w' = pinv(B^T) vec(w)`` (FlexiViT; MSPE Eq. 6), which by the
same separability is ``W' = P_h W P_w^T`` with ``P = pinv(B^T)`` of one axis: no matrix over whole patches is needed.

``B`` has to be the resize map of the images, so the downsampling model is explicit everywhere:

==================================  =====================================================================
``interpolation``, ``antialias``    the same as
==================================  =====================================================================
``'bilinear'``, True (the default)  PIL / mmcv ``backend='pillow'``, ``F.interpolate(antialias=True)``
``'bilinear'``, False               OpenCV / mmcv ``backend='cv2'`` (mmcv's own default), ``F.interpolate``
``'bicubic'``, True                 PIL / mmcv ``backend='pillow'``, ``F.interpolate(antialias=True)``
``'bicubic'``, False                OpenCV / mmcv ``backend='cv2'``, ``F.interpolate``
``'area'``                          OpenCV ``INTER_AREA``: what a camera with larger pixels would see
``'nearest'``                       OpenCV ``INTER_NEAREST``, ``F.interpolate(mode='nearest')``
==================================  =====================================================================

``antialias`` has no meaning for ``'area'`` and ``'nearest'`` and is ignored there. Besides rounding to 8 bits, there are
three differences: PIL clips bicubic's overshoot to 0..255 between its two passes; ``INTER_AREA`` is an area average only if
no axis grows; and ``'nearest'`` may take either pixel if an edge falls exactly between two pixels.
"""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice
from .cache import shared_constant

INTERPOLATIONS = ('bilinear', 'bicubic', 'area', 'nearest')
ANTIALIASED = ('bilinear', 'bicubic')    # those for which antialias makes a difference


def resize_matrix(out_size: int, in_size: int, interpolation: str = 'bilinear', antialias: bool = True) -> Tensor:
    """One axis of the resize map ``B``.

    Args:
        out_size: Length of the axis after resizing, in pixels, at least 1.
        in_size: Length of the axis before resizing, in pixels, at least 1.
        interpolation: One of :data:`INTERPOLATIONS`.
        antialias: Whether a shrinking filter averages over its whole footprint.

    Returns:
        ``B`` of shape (out_size, in_size), float64, on the CPU; every row sums to 1.

    Raises:
        ValueError: For a size below 1 or an unknown interpolation.
    """
    check_choice('interpolation', interpolation, INTERPOLATIONS)
    if out_size < 1 or in_size < 1:
        raise ValueError(f'cannot resize {in_size} px to {out_size} px: sizes must be at least 1')
    if interpolation == 'area':
        # Output pixel i covers [i, i + 1) * in_size / out_size; its weights are the shares of the input pixels in it.
        edges = torch.arange(out_size + 1, dtype=torch.float64) * (in_size / out_size)
        pixels = torch.arange(in_size, dtype=torch.float64)
        overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
        return overlap.clamp_(min=0) * (out_size / in_size)
    # The columns of B are the resized unit vectors. They go through as one image whose other axis keeps its size: a
    # batch of one-pixel-wide images has an ambiguous memory format, which F.interpolate(antialias=True) gets wrong.
    identity = torch.eye(in_size, dtype=torch.float64)[None, None]
    return _interpolate(identity, (out_size, in_size), interpolation, antialias)[0, 0]


def resize_image(image: Tensor, size: tuple[int, int], interpolation: str = 'bilinear',
                 antialias: bool = True) -> Tensor:
    """Resize a batch of images (Eq. 1) on their own device.

    Args:
        image: (B, C, H, W), floating point.
        size: (height, width) to resize to.
        interpolation: One of :data:`INTERPOLATIONS`.
        antialias: See the module's table.

    Returns:
        (B, C, height, width) in the dtype of ``image``; ``image`` itself if it has this size.

    Raises:
        ValueError: For a size below 1 or an unknown interpolation.
    """
    check_choice('interpolation', interpolation, INTERPOLATIONS)
    height, width = size
    if min(height, width) < 1:
        raise ValueError(f'cannot resize an image to {height} x {width}: sizes must be at least 1')
    if tuple(image.shape[-2:]) == (height, width):
        return image
    # F.interpolate's own 'area' rounds its windows to whole pixels, and its antialiasing is wrong for images that become
    # one pixel wide.
    if interpolation == 'area' or width == 1:
        rows = resize_matrix(height, image.shape[-2], interpolation, antialias).to(image)
        columns = resize_matrix(width, image.shape[-1], interpolation, antialias).to(image)
        with _full_precision(image.device):
            return rows @ image @ columns.T
    return _interpolate(image, (height, width), interpolation, antialias)


def refit_image(image: Tensor, size: tuple[int, int], base: tuple[int, int], interpolation: str = 'bilinear',
                antialias: bool = True, correlation: float = 0.) -> Tensor:
    """What a batch of images that were resized from ``base`` would be, had they been resized to ``size`` instead.

    ``R_h image R_w^T`` with ``R = B_size P^T`` for each axis, rows scaled to sum to 1: ``P`` estimates the image at ``base``
    by least squares, as in :func:`pi_resize`, and ``B_size`` resizes the estimate. A resize of the image itself by a few
    pixels would blur it: half-way between two pixels an interpolation is their mean.

    Args:
        image: (B, C, H, W), floating point.
        size: (height, width) in pixels.
        base: (height, width) in pixels from which the images were resized to (H, W).
        interpolation: The model by which they were, one of :data:`INTERPOLATIONS`.
        antialias: See the module's table.
        correlation: Of neighbouring pixels at ``base``, see :func:`pi_resize`.

    Returns:
        (B, C, height, width) in the dtype of ``image``.
    """
    dtype = torch.promote_types(image.dtype, torch.float32)
    rows, columns = (_refit_factor(new, old, whole, interpolation, antialias, correlation, image.device, dtype)
                     for new, old, whole in zip(size, (int(length) for length in image.shape[-2:]), base))
    with _full_precision(image.device):
        return (rows @ image.to(dtype) @ columns.T).to(image.dtype)


@shared_constant(maxsize=64)
def _refit_factor(out_size: int, in_size: int, base: int, interpolation: str, antialias: bool, correlation: float,
                  device: torch.device, dtype: torch.dtype) -> Tensor:
    """``R`` of one axis, (out_size, in_size)."""
    matrix = resize_matrix(in_size, base, interpolation, antialias)
    estimate = least_squares_factor(matrix, correlation if in_size < base else 0.)
    factor = resize_matrix(out_size, base, interpolation, antialias) @ estimate.T
    return (factor / factor.sum(1, keepdim=True)).to(device, dtype)


def pi_resize(weight: Tensor, size: tuple[int, int], interpolation: str = 'bilinear', antialias: bool = True,
              correlation: float = 0.) -> Tensor:
    """Pseudo-inverse resize of patch kernels: ``W' = P_h W P_w^T`` (FlexiViT; MSPE Eq. 6).

    Growing is exact, ``<resize(x), w'> = <x, w>`` for every patch ``x`` (Eq. 5). Shrinking is the least-squares optimum for
    patches of white noise, or with ``correlation`` for patches whose pixels are correlated as in images: with
    covariance ``S = S_h (x) S_w`` the optimum is ``(B S B^T)^-1 B S vec(w)``, which is separable too. A correlation
    between channels cancels, because ``B`` is the same for all channels.

    Args:
        weight: (..., h, w) patch kernels, floating point.
        size: (height, width) to resize the kernels to.
        interpolation: The model by which the *images* are resized, one of :data:`INTERPOLATIONS`.
        antialias: See the module's table.
        correlation: rho of ``S_ij = rho^|i - j|`` along each axis, from 0 (white noise: PI-resize) to less than 1. Useful
            without images to calibrate from; photographs are near 1.

    Returns:
        (..., height, width) in the dtype and on the device of ``weight``, differentiable with respect to it. The factors are
        computed in float64. The products are computed in float64 where float32 could be rounded to TF32 or bfloat16, see
        :func:`_product_dtype`; autocast has no effect. ``weight`` itself if it has this size.

    Raises:
        ValueError: For a size that is not two numbers from 1, an unknown interpolation or a correlation out of range.
    """
    check_correlation(correlation)
    if len(size) != 2:
        raise ValueError(f'a patch kernel is resized to (height, width), got the size {tuple(size)}')
    height, width = int(size[0]), int(size[1])
    h, w = weight.shape[-2:]
    if (height, width) == (h, w):
        return weight
    dtype = _product_dtype(weight)
    rows = _pi_factor(height, h, interpolation, antialias, correlation, weight.device, dtype)
    columns = _pi_factor(width, w, interpolation, antialias, correlation, weight.device, dtype)
    kernels = weight.to(dtype)
    with _full_precision(weight.device):
        # Rows first is a quarter faster where they shrink (16 -> 12 on a CPU), a quarter slower where they grow (16 -> 32).
        resized = rows @ kernels @ columns.T if height < h else rows @ (kernels @ columns.T)
    return resized.to(weight.dtype)


@shared_constant(maxsize=1024)
def _pi_factor(out_size: int, in_size: int, interpolation: str, antialias: bool, correlation: float, device: torch.device,
               dtype: torch.dtype) -> Tensor:
    """``P`` of one axis, (out_size, in_size), shared by every kernel of these sizes."""
    matrix = resize_matrix(out_size, in_size, interpolation, antialias)
    return least_squares_factor(matrix, correlation if out_size < in_size else 0.).to(device, dtype)


def least_squares_factor(matrix: Tensor, correlation: float = 0.) -> Tensor:
    """``P`` for one axis of ``B``, (out, in) both: it minimises ``|L^T (B^T w' - w)|`` for S = L L^T of ``correlation``.

    ``P = pinv(L^T B^T) L^T``, and ``pinv(B^T)`` for white noise. A growing axis has many optima. The result is the shortest
    one, which does not depend on S.
    """
    if not correlation:
        return torch.linalg.pinv(matrix.T)
    places = torch.arange(matrix.shape[1], dtype=torch.float64)
    root = torch.linalg.cholesky(correlation**(places[:, None] - places).abs())
    return torch.linalg.pinv(root.T @ matrix.T) @ root.T


def _product_dtype(weight: Tensor) -> torch.dtype:
    """float32 if PyTorch computes float32 products in full precision, else float64.

    ``torch.set_float32_matmul_precision`` and the flags behind it round the factors of float32 products: to TF32 on CUDA
    devices, to bfloat16 on some CPUs. No such setting rounds float64.
    """
    if weight.dtype == torch.float64:
        return torch.float64
    if weight.device.type == 'mps':    # it has no float64, and no such setting
        return torch.float32
    if weight.device.type not in ('cpu', 'meta') or _rounds_float32_products():
        return torch.float64
    return torch.float32


@torch.compiler.assume_constant_result    # torch.compile cannot trace the query
def _rounds_float32_products() -> bool:
    try:
        return torch.get_float32_matmul_precision() != 'highest'
    except RuntimeError:    # the newer ``fp32_precision`` flags are in use
        return True


def _full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast."""
    return nullcontext() if device.type == 'meta' else torch.autocast(device.type, enabled=False)


def _interpolate(image: Tensor, size: tuple[int, int], interpolation: str, antialias: bool) -> Tensor:
    if interpolation == 'nearest':
        return F.interpolate(image, size, mode='nearest')
    if image.dtype in (torch.float16, torch.bfloat16):    # not implemented with antialiasing on every device
        return _interpolate(image.float(), size, interpolation, antialias).to(image.dtype)
    return F.interpolate(image, size, mode=interpolation, align_corners=False, antialias=antialias)


def check_correlation(correlation: float) -> None:
    """Raise a ValueError if ``correlation`` is not from 0 to less than 1."""
    if not 0 <= correlation < 1:
        raise ValueError(f'correlation must be from 0 to less than 1, got {correlation}')
