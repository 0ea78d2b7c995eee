"""What the layer adopts from the patch embedding that it replaces: names, padding and the axes of the tokens."""
from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice

PADDINGS = ('corner', 'same', None)
LAYOUTS = ('NLC', 'NHWC', 'NCHW')


@dataclass(frozen=True)
class HostLayout:
    """How the host's patch embedding names its convolution, pads images and returns tokens.

    Args:
        proj_name: The host's name of the pretrained convolution; '' if the layer takes the place of the convolution itself.
        padding: What happens to a remainder smaller than a patch: ``'corner'`` pads it with zeros at the bottom and on the
            right, ``'same'`` pads the image with zeros on all sides, and None cuts the remainder off.
        layout: Axes of the tokens: ``'NLC'``, ``'NHWC'`` or ``'NCHW'``.
        with_grid: Whether the token grid is returned beside the tokens.
        strict_grid: Refuse images whose tokens are not on the base grid, for hosts that can take no other.

    Raises:
        ValueError: For an unknown padding or layout.
    """

    proj_name: str = 'proj'
    padding: str | None = 'corner'
    layout: str = 'NLC'
    with_grid: bool = True
    strict_grid: bool = False

    def __post_init__(self) -> None:
        check_choice('padding', self.padding, PADDINGS)
        check_choice('layout', self.layout, LAYOUTS)

    def pad(self, x: Tensor, patch: tuple[int, int], reach: tuple[tuple[int, int], ...]) -> Tensor:
        """Pad images with zeros to whole patches.

        Args:
            x: (B, C, H, W).
            patch: (height, width) of the patches in pixels.
            reach: How far kernels reach on each axis: pixels (before the patch, from its first pixel on). The first number
                is also padded on both sides, by :func:`~mspe_mm.layers.context.with_context` or the convolution.

        Returns:
            The padded images; with ``padding=None`` they are ``x``, and the convolution cuts off the remainder.

        Raises:
            ValueError: For an image smaller than a patch, with ``padding=None``.
        """
        if self.padding is None:
            if x.shape[-2] < patch[0] or x.shape[-1] < patch[1]:
                raise ValueError(f'an image of {x.shape[-2]} x {x.shape[-1]} px has no room for a patch of {patch[0]} x '
                                 f"{patch[1]} px: set padding='corner'")
            return x
        # What the last patch's kernel sees beyond the image and the padding of both sides; for a patch alone, -length % p.
        bottom, right = (max(0, (-(-length // p) - 1) * p + after - length - before)
                         for length, p, (before, after) in zip(x.shape[-2:], patch, reach))
        if bottom == right == 0:
            return x
        top, left = (bottom // 2, right // 2) if self.padding == 'same' else (0, 0)
        return F.pad(x, (left, right - left, top, bottom - top))

    def arrange(self, tokens: Tensor) -> Tensor:
        """Tokens (B, D, rows, columns) of the convolution, with the axes of ``layout``."""
        if self.layout == 'NLC':
            return tokens.flatten(2).transpose(1, 2)
        return tokens.permute(0, 2, 3, 1) if self.layout == 'NHWC' else tokens
