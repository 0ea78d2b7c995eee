"""PI-resize of patch kernels against timm's.

Both use timm's downsampling model, antialiased bicubic. Without caches the peer is ``resample_patch_embed``. With caches the
peer is ``PatchEmbedResamplerFixedOrigSize``.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ...errors import InputError
from ...layers import resize
from ..models import NAMES, PATCH, SIZES
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step

MODEL = dict(interpolation='bicubic', antialias=True)


def comparisons(settings: Settings, models: Sequence[str], sizes: Sequence[int]) -> list[Comparison]:
    """The comparisons of this case.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        sizes: Patch sizes in pixels to resize to.

    Raises:
        InputError: If timm is missing, or a size is below 1.
    """
    timm_resizers()
    for size in sizes:
        if size < 1:
            raise InputError(f'cannot resize a patch kernel to {size} px: --sizes must be at least 1')
    found = []
    for model in models:
        for cached in (False, True):
            for size in sizes:
                labels = dict(model=f'{NAMES[model]} ({SIZES[model][0]})', patch=f'{PATCH} → {size}',
                              factors='cached' if cached else 'not cached')
                build = dict(width=SIZES[model][0], size=size, cached=cached, settings=settings)
                peer = 'timm PatchEmbedResamplerFixedOrigSize' if cached else 'timm resample_patch_embed'
                found.append(Comparison(
                    labels, Candidate('pi_resize', partial(ours, **build)),
                    (Candidate(peer, partial(timms, **build), same_output=True), ), memory=False, flops=False))
    return found


def ours(width: int, size: int, cached: bool, settings: Settings) -> Step:
    weight = _kernel(width, settings)

    def step(_: int) -> torch.Tensor:
        if not cached:
            forget()
        return resize.pi_resize(weight, (size, size), **MODEL)
    return step


def timms(width: int, size: int, cached: bool, settings: Settings) -> Step:
    weight = _kernel(width, settings)
    resample, resampler = timm_resizers()
    if not cached:
        return lambda _: resample(weight, [size, size], **MODEL)
    keeping = resampler((PATCH, PATCH), **MODEL)
    return lambda _: keeping(weight, [size, size])


def forget() -> None:
    """Empty all caches of :mod:`mspe_mm.layers.resize`."""
    for function in vars(resize).values():
        if hasattr(function, 'cache_clear'):
            function.cache_clear()


def timm_resizers() -> tuple:
    """timm's function without a cache, and its module with one."""
    try:
        from timm.layers.patch_embed import PatchEmbedResamplerFixedOrigSize, resample_patch_embed
    except ImportError as error:
        raise InputError(f'this case compares with timm: pip install -U timm ({error})') from error
    return resample_patch_embed, PatchEmbedResamplerFixedOrigSize


def _kernel(width: int, settings: Settings) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(width, 3, PATCH, PATCH, generator=generator).to(settings.device, settings.dtype)
