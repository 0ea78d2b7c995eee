"""A model cut in two graphs of fixed sizes: one embeds images of one resolution, the other is the same for all of them.

The token grid does not change with the resolution. So whatever follows the patch embedding is one static graph, and a
resolution adds its normalisation, one patch kernel and one convolution.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..layers.patch_embed import MultiScalePatchEmbed

TASKS = ('segmentation', 'detection', 'classification')


def task_of(model: nn.Module) -> str:
    """One of :data:`TASKS`."""
    if hasattr(model, 'decode_head'):
        return 'segmentation'
    return 'classification' if hasattr(model, 'timm_name') else 'detection'


def prepared(model: nn.Module, images: Tensor) -> Tensor:
    """Images as the model gets them from its data preprocessor.

    Args:
        model: A model of this package.
        images: (B, 3, h, w) RGB, 8 bits.

    Returns:
        (B, 3, h', w') normalised; larger where the data preprocessor pads.
    """
    loaded = images if loads_rgb(model) else images.flip(1)
    samples = [BaseDataElement() for _ in images]
    return model.data_preprocessor(dict(inputs=list(loaded), data_samples=samples))['inputs']


def loads_rgb(model: nn.Module) -> bool:
    """Whether the pipelines of a model load images in RGB order, as timm's do; mmseg's and mmdet's load BGR."""
    return task_of(model) == 'classification'


def outputs_of(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """What is exported of a model, from normalised images (B, 3, h, w): logits, or the features of a detector's neck."""
    found = model.outputs(images).compared
    return (found, ) if isinstance(found, Tensor) else tuple(found)


def output_names(model: nn.Module, count: int) -> list[str]:
    """Names of the ``count`` outputs."""
    return [f'features_{level}' for level in range(count)] if task_of(model) == 'detection' else ['logits']


class Embedding(nn.Module):
    """Images of one size to tokens: normalisation and the MSPE layer, whose kernel is resized once and for all.

    Args:
        model: A model of this package.
        size: (height, width) of the images in pixels.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        layer, preprocessor = model.mspe_layer, model.data_preprocessor
        with torch.no_grad():
            weight, bias = layer.sized_kernel(layer.kernel_size(size), layer.kernel_index(size))
        self.register_buffer('weight', weight.detach().clone())
        self.register_buffer('bias', None if bias is None else bias.detach().clone())
        self.register_buffer('mean', getattr(preprocessor, 'mean', None))
        self.register_buffer('std', getattr(preprocessor, 'std', None))
        self.reverses = preprocessor._channel_conversion == loads_rgb(model)    # mmengine has no public name for it
        self.norm = layer.norm
        self._layer = (layer, )    # in a tuple, so that its other kernels are no part of the graph

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of images (B, 3, h, w), RGB, 8 bits: (B, L, D), or as the host lays them out."""
        (layer, ) = self._layer
        x = (images.flip(1) if self.reverses else images).float()
        if self.mean is not None:
            x = (x - self.mean) / self.std
        with _replaced(layer, 'sized_kernel', lambda *args, **kwargs: (self.weight, self.bias)):
            found = layer(x)
        return found[0] if layer.host.with_grid else found


class Encoder(nn.Module):
    """Tokens to the outputs of :func:`outputs_of`: all of a model that follows the MSPE layer.

    Args:
        model: A model of this package.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # Their weights are those of the graph; heads of a detector and auxiliary heads are no part of it.
        for name in ('backbone', 'neck', 'decode_head'):
            if isinstance(getattr(model, name, None), nn.Module):
                self.add_module(name, getattr(model, name))
        self._model = (model, )

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        (model, ) = self._model
        layer: MultiScalePatchEmbed = model.mspe_layer
        found = (tokens, layer.grid_size) if layer.host.with_grid else tokens
        with _replaced(layer, 'forward', lambda image: found):
            return outputs_of(model, layer.stand_in([tokens]))


@contextmanager
def _replaced(module: nn.Module, method: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within the context, a method of one module is ``function``."""
    setattr(module, method, function)
    try:
        yield
    finally:
        delattr(module, method)
