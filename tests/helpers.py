"""Builders and oracles that several test files share. The oracles call other people's code, or spell the formula out."""
from __future__ import annotations

import torch
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

# Every downsampling model: interpolation and antialias, which the last two ignore.
MODELS = [('bilinear', True), ('bilinear', False), ('bicubic', True), ('bicubic', False), ('area', True), ('nearest', True)]


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same arguments."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """``||actual - expected|| / ||expected||``."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30)).item()


def timm_resample(weight: Tensor, size: tuple[int, int], interpolation: str = 'bicubic', antialias: bool = True) -> Tensor:
    """timm's FlexiViT resampler, (D, C, h, w) to (D, C, *size).

    A width of one pixel is reached with the axes exchanged: F.interpolate(antialias=True), by which timm makes its matrix,
    returns wrong values for images that become one pixel wide (seen with PyTorch 2.11).
    """
    if size[1] == 1 < size[0]:
        return timm_resample(weight.mT, (1, size[0]), interpolation, antialias).mT
    return resample_patch_embed(weight, list(size), interpolation, antialias)


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every number of the state dict, so that none is left at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype))
    return model
