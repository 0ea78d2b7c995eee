"""Whether a converted model takes images of other sizes than the base resolution's.

The model runs without numbers: a copy on PyTorch's meta device has the shapes of all tensors, but no values. That takes no
memory and milliseconds, whatever the size of the model and of its token grid.
"""
from __future__ import annotations

import copy
import inspect
import traceback
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from .base_grid import enclosing, put_layer, takes_pixel_values

RESAMPLE = 'interpolate_pos_encoding'
"""The argument of models of transformers that resamples their position table to the image's size."""


@torch.no_grad()
def check_half_size(model: nn.Module, name: str, layer: MultiScalePatchEmbed,
                    stated: tuple[int, int] | None = None) -> None:
    """Compare the shapes of what a model returns for an image of half the base resolution, and at it.

    Of a model of transformers that takes more than images, the outermost module that takes them alone is checked. Other
    models that do, or that compute what has no shape before its values are known, are not checked.

    Args:
        model: A stock model, which is left as it is.
        name: The name of its patch embedding.
        layer: What replaces it.
        stated: The (height, width) that the model was built for, if it says so.

    Raises:
        InputError: If the model takes images at ``stated`` and not at the base resolution. If the model with the layer fails
            at half the base resolution, with the module that failed, or returns other shapes there.
    """
    base, half = layer.base_resolution, tuple(max(1, layer.patch_size // 2) * tokens for tokens in layer.grid_size)
    for outer in enclosing(model, name) or ['']:
        host = model.get_submodule(outer)
        try:
            twin = _without_values(host)
        except Exception:    # whatever a host raises
            return
        expected, error = _tried(twin, layer.in_channels, base)
        if error is None:
            break
        if stated and stated != base and _tried(twin, layer.in_channels, stated)[1] is None:
            raise InputError(_of_another_size(model, outer, base, stated, error)) from error
    else:
        return
    put_layer(twin, name[len(outer):].lstrip('.'), _without_values(layer))
    found, error = _tried(twin, layer.in_channels, half)
    if error is None and found == expected:
        return
    reason = (f'it returns {_listed(found)} there and {_listed(expected)} at the base resolution' if error is None
              else _said(error))
    where = '' if error is None else _place_of(error, twin)
    raise InputError(
        f'{_named(model, outer)}{where} works at one image size only: with the MSPE layer, {_px(half)} have the token grid '
        f'of {_px(base)}, and the model does not take them ({reason}). Build it for {_px(base)} and for images of any size '
        f'(img_size={base} and dynamic_img_size=True in timm), or set check=False')


def _of_another_size(model: nn.Module, outer: str, base: tuple[int, int], stated: tuple[int, int], error: Exception) -> str:
    said = (f'{_named(model, outer)} takes images of {_px(stated)}, and not of the base resolution, {_px(base)} '
            f'({_said(error)}): give base_resolution={stated}, or build the model for {_px(base)}')
    if RESAMPLE in inspect.signature(model.get_submodule(outer).forward).parameters:
        said += f'. Or set check=False, and call the model with {RESAMPLE}=True'
    return said


def _without_values(module: nn.Module) -> Any:
    """A copy on the meta device, in eval mode."""
    memo: dict[int, Tensor] = {id(p): nn.Parameter(p.detach().to('meta'), p.requires_grad) for p in module.parameters()}
    memo.update((id(buffer), buffer.to('meta')) for buffer in module.buffers())
    twin = copy.deepcopy(module, memo)
    twin.eval()    # mmseg's return None
    return twin


def _shapes(model: nn.Module, channels: int, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    dtype = next(model.parameters()).dtype
    image = torch.empty(1, channels, *size, device='meta', dtype=dtype)
    leaves, _ = tree_flatten(model(pixel_values=image) if takes_pixel_values(model) else model(image))
    return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor)]


def _tried(model: nn.Module, channels: int, size: tuple[int, ...]) -> tuple[list[tuple[int, ...]], Exception | None]:
    """The shapes, or the error."""
    try:
        return _shapes(model, channels, size), None
    except Exception as error:    # whatever a host raises
        return [], error


def _named(model: nn.Module, outer: str) -> str:
    return f'{type(model).__name__}.{outer}'.rstrip('.')


def _px(size: tuple[int, ...]) -> str:
    return ' x '.join(map(str, size)) + ' px'


def _said(error: Exception) -> str:
    return ' '.join(f'{type(error).__name__}: {error}'.split())[:200].rstrip('.')


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
