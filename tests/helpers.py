"""Builders and oracles that several test files share. The oracles call other people's code, or spell the formula out."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

from mspe_mm.layers.downsampling import DOWNSAMPLING_KEYS
from mspe_mm.layers.host_layout import HostLayout
from mspe_mm.layers.patch_embed import MultiScalePatchEmbed

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


def summed_losses(layer: nn.Module, images: Tensor, task_loss: Callable[[Tensor], dict], base_weight: float = 1.0) -> dict:
    """Eq. 7 by the book: the losses of all passes, each with its graph, for whoever sums and differentiates them.

    Each kernel sees its native resolution, as with ``sampling='native'``: nothing is drawn.
    """
    losses = {}
    for index, k in enumerate(layer.kernel_sizes):
        if str(k) in layer.kernels:
            size = [round(length * k / layer.patch_size) for length in images.shape[-2:]]
            small = images if size == list(images.shape[-2:]) else F.interpolate(
                images, size, mode='bilinear', align_corners=False, antialias=True)
            with layer.force_kernel(index):
                losses.update({f'k{k}.{name}': value for name, value in task_loss(small).items()})
    if str(layer.patch_size) in layer.kernels:
        for name, value in task_loss(images).items():
            factor = base_weight if 'loss' in name else 1.0
            losses[f'base.{name}'] = [v * factor for v in value] if isinstance(value, list) else value * factor
    return losses


class SummedLosses:
    """:func:`summed_losses` in the place of an objective.

    Args:
        objective: What the loss of a pass is.
    """

    freeze = at_base = True

    def __init__(self, objective: str = 'task') -> None:
        self.objective = objective

    def __call__(self, layer: nn.Module, images: Tensor, task_loss: Callable[[Tensor], dict],
                 model: nn.Module | None = None) -> dict:
        return summed_losses(layer, images, task_loss)


def in_threads(function: Callable, arguments: Iterable, threads: int = 8) -> list:
    """``function`` of each of ``arguments``, called by several threads that take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, arguments))
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[SimpleNamespace]:
    """Counts what autograd holds for backward passes, parameters apart: ``now`` and, at its most, ``peak``, in bytes."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    count, users = SimpleNamespace(now=0, peak=0), {}

    class Saved:
        def __init__(self, tensor):
            self.tensor, self.storage = tensor.detach(), tensor.untyped_storage().data_ptr()    # no cycle with its graph
            self.size = 0 if self.storage in parameters else tensor.untyped_storage().nbytes()
            users[self.storage] = users.get(self.storage, 0) + 1
            if users[self.storage] == 1:
                count.now += self.size
                count.peak = max(count.peak, count.now)

        def __del__(self):
            users[self.storage] -= 1
            if users[self.storage] == 0:
                count.now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        yield count


def layer_of(**settings: Any) -> MultiScalePatchEmbed:
    """A layer by the paper's formula, with the settings of its downsampling model and of its host given flat."""
    def taken(keys: Iterable[str]) -> dict:
        return {key: settings.pop(key) for key in keys if key in settings}
    downsampling, host = taken(DOWNSAMPLING_KEYS), taken(field.name for field in fields(HostLayout))
    return MultiScalePatchEmbed(**{'fit': 'floor', **settings}, downsampling=downsampling, host=HostLayout(**host))


def unit_of(layer: MultiScalePatchEmbed) -> float | Tensor:
    """What the corrections of a layer are measured in: 1, or for 'relative' the pretrained kernel's root mean square."""
    return layer.base.weight.square().mean().sqrt() if layer.parameterization == 'relative' else 1.
