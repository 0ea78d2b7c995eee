"""At which resolution a kernel sees an image in training."""
from __future__ import annotations

from torch import Tensor

from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.resolution import SAMPLINGS


def check_sampling(sampling: str) -> None:
    """Raise a ValueError that lists the choices if ``sampling`` is none of them."""
    if sampling not in SAMPLINGS:
        raise ValueError(f'unknown sampling {sampling!r}: choose one of {", ".join(SAMPLINGS)}')


def resolution_of(patch: tuple[int, int], patch_embed: MultiScalePatchEmbed, images: Tensor) -> tuple[int, int]:
    """(height, width) in pixels at which images (B, C, H, W) of the base resolution have patches of ``patch`` pixels."""
    height, width = (max(1, round(length * p / patch_embed.patch_size)) for length, p in zip(images.shape[-2:], patch))
    return height, width
