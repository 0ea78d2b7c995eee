"""How a resolution determines the token grid and the patch kernel, and which patch sizes training draws.

All sizes are (height, width). A resolution and a patch size are two names for one thing once the token grid ``N`` is
fixed: a kernel of ``k`` pixels is native to the resolution ``k N``.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..errors import check_choice

KERNEL_POLICIES = ('fixed', 'isotropic', 'constant')
FITS = ('up', 'nearest', 'floor')
SAMPLINGS = ('double', 'partition', 'native')


def default_kernel_sizes(patch_size: int) -> tuple[int, ...]:
    """A quarter, a half, three quarters and the whole of ``patch_size``, in whole pixels (halves up).

    The paper's (4, 8, 12, 16) for 16; (4, 7, 11, 14) for 14; (1, 2, 3, 4) for 4.
    """
    return _sixteenths(patch_size, (4, 8, 12, 16))


def dense_kernel_sizes(patch_size: int) -> tuple[int, ...]:
    """A sixteenth, an eighth, three sixteenths, then :func:`default_kernel_sizes` with three eighths, in whole pixels.

    (1, 2, 3, 4, 6, 8, 12, 16) for 16; (1, 2, 3, 4, 5, 7, 11, 14) for 14; (1, 2, 3, 4) for 4. Halves are rounded up. For
    tuning at a sixteenth of the base resolution, too: docs/results.md. The smallest kernel also trains below its own size,
    see :func:`sampling_range`: without one for a sixteenth, the one for an eighth would train at a sixteenth.
    """
    return _sixteenths(patch_size, (1, 2, 3, 4, 6, 8, 12, 16))


def _sixteenths(patch_size: int, parts: Sequence[int]) -> tuple[int, ...]:
    """Sixteenths of ``patch_size`` in whole pixels (halves up), from 1, ascending and without repeats."""
    return tuple(sorted({max(1, (2 * patch_size * part + 16) // 32) for part in parts}))


def fit_kernel(image_size: tuple[int, int], grid_size: tuple[int, int], patch_size: int,
               policy: str = 'fixed', fit: str = 'floor') -> tuple[int, int]:
    """The patch size that puts the token grid on an image.

    Args:
        image_size: (height, width) in pixels.
        grid_size: (rows, columns) of tokens at the base resolution.
        patch_size: Patch size at the base resolution, in pixels.
        policy: ``'fixed'`` keeps the grid, whatever the aspect ratio: ``h / N_h`` and ``w / N_w`` in whole pixels, from 1.
            ``'isotropic'`` keeps patches square: the smaller of the two, from the side that is short for the grid.
            ``'constant'`` is the stock patch embedding: always ``patch_size``, so that the grid follows the image.
        fit: How ``h / N_h`` becomes whole pixels: rounded ``'up'``, to the ``'nearest'`` (halves up), or down (``'floor'``,
            the paper's).

    Returns:
        (height, width) of the patches in pixels.

    Raises:
        ValueError: For an empty image or an unknown policy.
    """
    check_choice('kernel_policy', policy, KERNEL_POLICIES)
    if min(image_size) < 1:
        raise ValueError(f'cannot embed an image of {image_size[0]} x {image_size[1]} px')
    if policy == 'constant':
        return patch_size, patch_size
    height, width = (_patch(length, tokens, fit) for length, tokens in zip(image_size, grid_size))
    if policy == 'fixed':
        return height, width
    return min(height, width), min(height, width)


def _patch(length: int, tokens: int, fit: str) -> int:
    """``length / tokens`` in whole pixels, from 1."""
    added = dict(floor=0, nearest=tokens, up=2 * tokens - 1)[fit]    # in halves, so that all numbers are whole
    return max(1, (2 * length + added) // (2 * tokens))


def fit_image(image_size: tuple[int, int], kernel: tuple[int, int], grid_size: tuple[int, int],
              policy: str = 'fixed') -> tuple[int, int]:
    """The size that an image is brought to for ``fit='up'`` and ``'nearest'``: whole patches make up the token grid.

    Args:
        image_size: (height, width) in pixels.
        kernel: (height, width) of the patches, of :func:`fit_kernel`.
        grid_size: (rows, columns) of tokens at the base resolution.
        policy: As in :func:`fit_kernel`. With ``'isotropic'`` the side that is short for the grid has it, and the other
            keeps the aspect ratio. With ``'constant'`` images stay as they are.

    Returns:
        (height, width) in pixels: less than a pixel a patch above ``image_size`` for ``'up'``, at most half a pixel a patch
        from it for ``'nearest'``. An image of less than half a pixel a patch is enlarged to one.
    """
    if policy == 'constant':
        return image_size
    height, width = kernel[0] * grid_size[0], kernel[1] * grid_size[1]
    if policy == 'fixed':
        return height, width
    if image_size[0] * grid_size[1] <= image_size[1] * grid_size[0]:    # the height is short for the grid
        return height, max(1, (2 * image_size[1] * height + image_size[0]) // (2 * image_size[0]))
    return max(1, (2 * image_size[0] * width + image_size[1]) // (2 * image_size[1])), width


def choose_kernel(resolution: tuple[int, int], grid_size: tuple[int, int], kernel_sizes: Sequence[int]) -> int:
    """The kernel whose native resolution is nearest, ``argmin_i ||r_i - r*||`` (Eq. 10).

    Args:
        resolution: ``r*``, (height, width) in pixels.
        grid_size: (rows, columns) of tokens.
        kernel_sizes: Native patch sizes ``k_i`` in pixels; kernel i is native to ``r_i = k_i N``.

    Returns:
        The index i. Of two kernels at the same distance it is the larger, which keeps more of the pretrained kernel.
    """
    # Squares of whole numbers, so that equal distances are equal.
    distances = [(k * grid_size[0] - resolution[0])**2 + (k * grid_size[1] - resolution[1])**2 for k in kernel_sizes]
    nearest = 0
    for index, distance in enumerate(distances):
        if distance <= distances[nearest]:
            nearest = index
    return nearest


def sampling_range(kernel_sizes: Sequence[int], index: int, sampling: str = 'double') -> tuple[int, int]:
    """The patch sizes that kernel ``index`` is trained at.

    Args:
        kernel_sizes: Native patch sizes in pixels, ascending.
        index: Which kernel.
        sampling: ``'double'`` is [k / 2, 2 k], what the paper's authors ran. ``'partition'`` is the kernel's own share of
            [k_1 / 2, 2 k_K], cut half-way between neighbours: the paper's text, and the sizes that Eq. 10 gives the kernel.
            ``'native'`` is k alone.

    Returns:
        The smallest and the largest patch size in pixels, both included.

    Raises:
        ValueError: For an unknown sampling.
    """
    check_choice('sampling', sampling, SAMPLINGS)
    k = kernel_sizes[index]
    if sampling == 'native':
        return k, k
    low, high = max(1, math.ceil(k / 2)), 2 * k
    if sampling == 'partition':
        if index > 0:
            low = math.ceil((kernel_sizes[index - 1] + k) / 2)
        if index < len(kernel_sizes) - 1:
            high = math.ceil((k + kernel_sizes[index + 1]) / 2) - 1
    return low, high


def resolution_for(image_size: Sequence[int], patch: tuple[int, int], base_patch: int,
                   grid: tuple[int, int] = (1, 1), base_grid: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """(height, width) in pixels at which a base image has patches of ``patch`` pixels.

    Args:
        image_size: (height, width) of the image at the base resolution, in pixels.
        patch: (height, width) in pixels.
        base_patch: Patch size at the base resolution, in pixels.
        grid: (rows, columns) of tokens that the image has then.
        base_grid: (rows, columns) of tokens at the base resolution.
    """
    height, width = (max(1, round(length * p * tokens / (base_patch * base_tokens)))
                     for length, p, tokens, base_tokens in zip(image_size, patch, grid, base_grid))
    return height, width


def draw_patch_size(kernel_sizes: Sequence[int], index: int, sampling: str = 'double', aspect_jitter: bool = False,
                    generator: torch.Generator | None = None) -> tuple[int, int]:
    """Draw one patch size for kernel ``index``, uniformly over :func:`sampling_range`.

    Args:
        kernel_sizes: Native patch sizes in pixels, ascending.
        index: Which kernel.
        sampling: See :func:`sampling_range`.
        aspect_jitter: Draw height and width apart instead of one square.
        generator: Source of randomness; PyTorch's global one by default.

    Returns:
        (height, width) in pixels.
    """
    low, high = sampling_range(kernel_sizes, index, sampling)
    height, width = torch.randint(low, high + 1, (2, ), generator=generator).tolist()
    return height, width if aspect_jitter else height
