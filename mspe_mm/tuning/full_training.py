"""Training all weights of a model at several resolutions of every batch, as ResFormer and RIViT do."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import check_choice
from ..layers.resize import INTERPOLATIONS, resize_image
from .early_backward import Losses


@dataclass
class MultiResolutionTraining:
    """``L = sum_r l(model(resize(x, r)), y)`` over fixed resolutions r.

    Args:
        resolutions: In pixels, each one number or (height, width).
        interpolation: How the images are resized, see :mod:`mspe_mm.layers.resize`.
        antialias: Likewise.
    """

    resolutions: Sequence[Any]    # pairs from __post_init__ on
    interpolation: str = 'bilinear'
    antialias: bool = True

    def __post_init__(self) -> None:
        check_choice('interpolation', self.interpolation, INTERPOLATIONS)
        self.resolutions = [(r, r) if isinstance(r, int) else tuple(r) for r in self.resolutions]
        if not self.resolutions or any(len(r) != 2 or min(r) < 1 for r in self.resolutions):
            raise ValueError(f'resolutions must be positive numbers of pixels, got {self.resolutions}')

    def __call__(self, images: Tensor, task_loss: Callable[[Tensor], Losses]) -> Losses:
        """Losses of one step, named ``r<height>x<width>.<name>``.

        Args:
            images: (B, C, H, W). Images smaller than a resolution are enlarged and gain no detail.
            task_loss: Maps images (B, C, h, w) to the model's losses by name.
        """
        losses: Losses = {}
        for height, width in self.resolutions:
            resized = resize_image(images, (height, width), self.interpolation, self.antialias)
            losses.update({f'r{height}x{width}.{name}': value for name, value in task_loss(resized).items()})
        return losses
