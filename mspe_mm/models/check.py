"""Whether a converted model takes images of other sizes than the base resolution's.

The model runs without numbers: a copy on PyTorch's meta device has the shapes of all tensors, but no values. That takes no
memory and milliseconds, whatever the size of the model and of its token grid.
"""
from __future__ import annotations

import copy
import traceback
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed


@torch.no_grad()
def check_half_size(model: nn.Module, name: str, layer: MultiScalePatchEmbed) -> None:
    """Compare the shapes of what a model returns for an image of half the base resolution, and at it.

    Models that take more than an image, or compute what has no shape before its values are known, are not checked.

    Args:
        model: A stock model, which is left as it is.
        name: The name of its patch embedding.
        layer: What replaces it.

    Raises:
        InputError: If the model with the layer fails at half the base resolution, with the module that failed, or returns
            other shapes there.
    """
    half = tuple(max(1, layer.patch_size // 2) * tokens for tokens in layer.grid_size)
    try:
        twin = _without_values(model)
        expected = _shapes(twin, layer.in_channels, layer.base_resolution)
    except Exception:    # whatever a host raises
        return
    parent, _, attribute = name.rpartition('.')
    setattr(twin.get_submodule(parent), attribute, _without_values(layer))
    where, reason = '', ''
    try:
        found = _shapes(twin, layer.in_channels, half)
        if found == expected:
            return
        reason = f'it returns {_listed(found)} there and {_listed(expected)} at the base resolution'
    except Exception as error:
        where = _place_of(error, twin)
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
    height, width = layer.base_resolution
    raise InputError(
        f'{type(model).__name__}{where} works at one image size only: with the MSPE layer, {half[0]} x {half[1]} px have '
        f'the token grid of {height} x {width} px, and the model does not take them ({reason}). Build it for {height} x '
        f'{width} px and for images of any size (img_size=({height}, {width}) and dynamic_img_size=True in timm, '
        'interpolate_pos_encoding=True in transformers), or set check=False')


def _without_values(module: nn.Module) -> Any:
    """A copy on the meta device, in eval mode."""
    memo: dict[int, Tensor] = {id(p): nn.Parameter(p.detach().to('meta'), p.requires_grad) for p in module.parameters()}
    memo.update((id(buffer), buffer.to('meta')) for buffer in module.buffers())
    twin = copy.deepcopy(module, memo)
    twin.eval()    # mmseg's return None
    return twin


def _shapes(model: nn.Module, channels: int, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    dtype = next(model.parameters()).dtype
    leaves, _ = tree_flatten(model(torch.empty(1, channels, *size, device='meta', dtype=dtype)))
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ', '.join(map(str, shapes[:4])) + (', ...' if len(shapes) > 4 else '')


def _place_of(error: Exception, model: nn.Module) -> str:
    """The innermost module that an error passed, and its method, as a suffix of the model's name."""
    names, place = {id(module): name for name, module in model.named_modules()}, ''
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = names.get(id(frame.f_locals.get('self')))
        if name is not None and not frame.f_code.co_name.startswith(('_call_impl', '_wrapped_call_impl')):
            place = f'{f".{name}" if name else ""}.{frame.f_code.co_name}'
    return place
