"""Convert a built model: the MSPE layer replaces its patch embedding, and nothing else changes.

A patch embedding is recognised by its structure, not by its class: a module of one convolution, the model's first, and at
most a norm. Where the convolution sits beside the class token, the position table or a norm of the tokens, and in models of
Hugging Face transformers, the layer replaces the convolution itself, and the module around it stays. The layer and what it
replaces are run on an image of the base resolution, and their outputs have to be equal. So the transformers of mmseg, mmdet,
timm and Hugging Face can be converted, and all others of that structure.
"""
from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError, check_names
from ..layers.downsampling import DOWNSAMPLING_KEYS
from ..layers.host_layout import LAYOUTS, HostLayout
from ..layers.patch_embed import MultiScalePatchEmbed
from .base_grid import enclosing, put_layer
from .check import check_half_size
from .conv_patch_embed import ConvPatchEmbed
from .settings import LAYER_SETTINGS
from .timm_patch_embed import TimmPatchEmbed


def convert_patch_embed(model: nn.Module,
                        base_resolution: int | tuple[int, int] | None = None,
                        kernel_sizes: Sequence[int] | None = None,
                        check: bool = True,
                        **settings: Any) -> MultiScalePatchEmbed:
    """Replace the patch embedding of ``model``, in place, by the MSPE layer.

    Parameter names stay the host's, with ``kernels`` beside them, so that stock checkpoints load with ``strict=True``
    afterwards. Weights that were loaded before are kept. At the base resolution the model's output does not change, bit for
    bit. In hierarchical models the embedding of the first stage is replaced: the grids of all stages follow its token grid.

    Args:
        model: A model, or its backbone.
        base_resolution: Resolution in pixels that the model was trained at, one number or (height, width). By default the
            ``img_size`` or ``image_size`` that the host states. Models with rotary positions and no table, as DINOv3, fit
            every size and state none: they need it.
        kernel_sizes: Native patch sizes of the kernels in pixels, one of them the host's; by default its quarters.
        check: Refuse models that take images of the base resolution only, see :mod:`~mspe_mm.models.check`.
        **settings: ``context``, ``kernel_policy``, ``parameterization``, ``tune_base`` and ``downsampling`` of
            :class:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed`. ``interpolation``, ``antialias`` and ``correlation``
            may also be given as separate arguments.

    Returns:
        The new layer.

    Raises:
        InputError: If the model has no such patch embedding, with the reason, or the settings do not fit it.
    """
    name, stock, proj_name = _find_stock(model)
    conv = cast(nn.Conv2d, getattr(stock, proj_name) if proj_name else stock)
    where = f'{type(model).__name__}.{name}'
    stated = _stated_resolution(model, name)
    resolution = base_resolution or stated
    if resolution is None:
        raise InputError(f'{type(model).__name__} does not say at which resolution it was trained: give base_resolution='
                         '(height, width)')
    height, width = _pair(resolution)
    patch_size = conv.stride[0]
    if height % patch_size or width % patch_size:
        raise InputError(f'base_resolution must be whole patches of {patch_size} px for {where}, got {height} x {width}')
    cls = TimmPatchEmbed if hasattr(stock, 'dynamic_feat_size') else MultiScalePatchEmbed if proj_name else ConvPatchEmbed
    check_names(settings, [*LAYER_SETTINGS, *DOWNSAMPLING_KEYS], 'patch_embed')
    flat = {key: settings.pop(key) for key in DOWNSAMPLING_KEYS if key in settings}
    if flat:
        settings['downsampling'] = {**flat, **settings.get('downsampling', {})}
    try:
        layer = cls(
            conv.in_channels, conv.out_channels, patch_size, (height // patch_size, width // patch_size), kernel_sizes,
            base_kernel=conv.kernel_size[0], bias=conv.bias is not None, norm=getattr(stock, 'norm', None), host=HostLayout(
                proj_name, _rest_of(stock, conv), strict_grid=getattr(stock, 'strict_img_size', False)), **settings)
    except (TypeError, ValueError) as error:
        raise InputError(f'{where} cannot be converted: {error}') from error
    layer.adopt(conv)
    layer.kernels.to(conv.weight)
    layer.reset_kernels()
    _match_output(layer, stock, where, (height, width))
    if check and layer.kernel_policy != 'constant':    # which is the host's own patch embedding
        check_half_size(model, name, layer, _pair(stated) if stated else None)
    put_layer(model, name, layer.train(stock.training))
    return layer


@contextmanager
def following_base(layer: MultiScalePatchEmbed) -> Iterator[None]:
    """Reset the patch kernels if the block changes the pretrained kernel, but not them.

    This happens if a host initialises its weights, because it has no code for the patch kernels.
    """
    before = [[p.detach().clone() for p in part.parameters()] for part in (layer.base, layer.kernels)]
    yield
    base_same, kernels_same = (
        all(torch.equal(p, old) for p, old in zip(part.parameters(), copies))
        for part, copies in zip((layer.base, layer.kernels), before))
    if kernels_same and not base_same:
        layer.reset_kernels()


def _find_stock(model: nn.Module) -> tuple[str, nn.Module, str]:
    """The patch embedding of a model: its name, itself, and the name of the convolution in it."""
    host = type(model).__name__
    if any(isinstance(module, MultiScalePatchEmbed) for module in model.modules()):
        raise InputError(f'{host} has an MSPE patch embedding already')
    first = next((name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), '')
    if not first:
        raise InputError(f'{host} cannot be converted: it has no convolution, and MSPE resizes the one that cuts the image '
                         'into patches')
    owner, _, proj_name = first.rpartition('.')
    stock, conv = model.get_submodule(owner), cast(nn.Conv2d, model.get_submodule(first))
    beside = {name: child for name, child in stock.named_children()
              if name != proj_name and any(True for _ in child.parameters())}
    tables = [name for name, _ in stock.named_parameters(recurse=False)]
    # Of the tokens: position tables and norms of the last axis. Those of images are other classes (LayerNorm2d).
    in_place = bool(enclosing(model, first)) or bool(tables) or any(name != 'norm' for name in beside)
    strange = [name for name, child in beside.items()
               if not (type(child) in (nn.Embedding, nn.LayerNorm) if in_place else name == 'norm')]
    if strange or not owner:
        raise InputError(
            f'{host} cannot be converted: its first convolution, {first}, has {_listed(strange + tables) or "nothing"} '
            'beside it, and a patch embedding has one convolution and at most a norm, a class token and a position table. '
            'MSPE is for transformers that cut the image into patches by one convolution, not for CNNs, hybrids and stems '
            'of several layers')
    siblings = [name for name, module in model.named_modules() if type(module) is type(stock)
                and getattr(getattr(module, proj_name, None), 'in_channels', None) == conv.in_channels]
    if len(siblings) > 1:
        raise InputError(f'{host} cannot be converted: {_listed(siblings)} all see the image, and MSPE is for one patch '
                         'embedding')
    if not in_place and len(inspect.signature(stock.forward).parameters) > 1:
        raise InputError(f'{host} cannot be converted: its {owner} takes more than an image')
    (k, _), (s, _), padding = conv.kernel_size, conv.stride, (0, 0) if conv.padding == 'valid' else tuple(conv.padding)
    square = len(set(conv.kernel_size)) == len(set(conv.stride)) == 1
    plain = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding_mode == 'zeros'
    centred = (k == s and padding == (0, 0)) or (k > s and k % 2 == 1 and padding == (k // 2, k // 2))
    if not (square and plain and centred):
        raise InputError(
            f'{host} cannot be converted: its first convolution, {first}, has kernel {conv.kernel_size}, stride '
            f'{conv.stride}, padding {padding}, dilation {conv.dilation} and groups {conv.groups}. Patches must be square, '
            'and kernels as large as a patch without padding, or larger, odd and padded by half their size')
    return (first, conv, '') if in_place else (owner, stock, proj_name)


def _stated_resolution(model: nn.Module, name: str) -> int | Sequence[int] | None:
    """The image size that a host was built for, if it is not merely a default."""
    if getattr(model, 'rope', None) is not None and getattr(model, 'pos_embed', None) is None:
        return None    # no weight is for a size: DINOv3's 256 px in timm are nobody's base resolution
    parts = name.split('.')
    around = [model.get_submodule('.'.join(parts[:depth])) for depth in range(len(parts), -1, -1)]
    sizes = (getattr(module, attribute, None) for module in around for attribute in ('img_size', 'image_size'))
    return next((size for size in sizes if size), None)


def _pair(resolution: int | Sequence[int]) -> tuple[int, int]:
    pair = (resolution, resolution) if isinstance(resolution, int) else tuple(resolution)
    if len(pair) != 2:
        raise InputError(f'base_resolution must be one number or (height, width), got {resolution}')
    return pair


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def _rest_of(stock: nn.Module, conv: nn.Conv2d) -> str | None:
    """How the host pads a remainder smaller than a patch, as the layer's ``padding``."""
    if conv.kernel_size != conv.stride or getattr(stock, 'dynamic_img_pad', False):    # timm's name for it
        return 'corner'
    return getattr(getattr(stock, 'adap_padding', None), 'padding', None)    # mmcv's


@torch.no_grad()
def _match_output(layer: MultiScalePatchEmbed, stock: nn.Module, where: str, size: tuple[int, int]) -> None:
    """Set ``layout`` and ``with_grid`` of the layer's ``host`` so that its output equals that of ``stock``.

    Raises:
        InputError: If no setting gives that output.
    """
    weight = layer.base.weight
    # No two pixels are equal. The image is the same at every call, and uses none of the program's random numbers.
    image = torch.arange(layer.in_channels * size[0] * size[1], device=weight.device).mul(12.9898).sin().to(weight.dtype)
    image = image.view(1, layer.in_channels, *size)
    twin = copy.deepcopy(layer).eval()
    try:
        expected = copy.deepcopy(stock).eval()(image)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f'{where} cannot be converted: it does not take an image of {size[0]} x {size[1]} px '
                         f'({" ".join(str(error).split())})') from error
    with_grid = isinstance(expected, tuple) and len(expected) == 2
    tokens, grid = expected if with_grid else (expected, layer.grid_size)
    if isinstance(tokens, Tensor) and isinstance(grid, Sequence) and tuple(grid) == layer.grid_size:
        (rows, columns), dims = grid, layer.embed_dims
        shapes = dict(NLC=(rows * columns, dims), NHWC=(rows, columns, dims), NCHW=(dims, rows, columns))
        for layout in (layout for layout in LAYOUTS if shapes[layout] == tuple(tokens.shape[1:])):
            twin.host = layer.host = replace(layer.host, layout=layout, with_grid=with_grid)
            found = twin(image)
            if torch.allclose(found[0] if with_grid else found, tokens):
                return
    raise InputError(f'{where} cannot be converted: {type(stock).__name__} computes more than a convolution and a norm, or '
                     'returns its tokens in an unknown layout')
