"""The models of other libraries that ours are compared with. They have the weights of ours."""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed
from .models import same_weights, vit, vit_settings, vitdet, vitdet_settings
from .naive_vitdet import NaiveViTDet

PROJECT_FILE = Path('projects/ViTDet/vitdet/vit.py')
_MODULE = 'mmdetection_vitdet_project'


def stock_vit(size: str, base: int) -> nn.Module:
    """mmseg's ``VisionTransformer``."""
    from mmseg.models.backbones import VisionTransformer
    return same_weights(VisionTransformer(**vit_settings(size, base)), vit(size, base))


def peer_vitdet(size: str, base: int, peer_path: str | None) -> nn.Module:
    """The ViTDet of mmdetection's project; the naive one without a ``peer_path``."""
    return same_weights(vitdet_class(peer_path)(**vitdet_settings(size, base)), vitdet(size, base))


def vitdet_name(peer_path: str | None) -> str:
    return 'mmdetection ViTDet project' if peer_path else 'naive ViTDet'


def vitdet_class(peer_path: str | None) -> Callable[..., nn.Module]:
    """The class of :func:`peer_vitdet`.

    Args:
        peer_path: Checkout of mmdetection, or None for the naive one.

    Raises:
        InputError: If the project is not in it or cannot be imported.
    """
    if peer_path is None:
        return NaiveViTDet
    file = Path(peer_path) / PROJECT_FILE
    if not file.is_file():
        raise InputError(f'--peer-path {peer_path} has no {PROJECT_FILE}: give a checkout of mmdetection 3')
    if _MODULE not in sys.modules:    # it registers itself with mmdet, which is possible once
        spec = importlib.util.spec_from_file_location(_MODULE, file)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            module.ViT    # noqa: B018
        except (ImportError, AttributeError, KeyError, SyntaxError) as error:
            raise InputError(f'{file} cannot be used: {" ".join(str(error).split())}') from error
        sys.modules[_MODULE] = module
    return partial(sys.modules[_MODULE].ViT, use_rel_pos=True)


class TokenGrid(nn.Module):
    """An MSPE layer with the output of the ViTDet project's patch embedding: tokens (B, rows, columns, D)."""

    def __init__(self, layer: MultiScalePatchEmbed) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        tokens, grid = self.layer(x)
        return tokens.unflatten(1, grid)


def stock_patch_embedding(model: nn.Module) -> nn.Module:
    """Replace the forward pass of a model's MSPE layer by that of mmseg's stock layer, with the pretrained kernel."""
    from mmseg.models.utils import PatchEmbed
    layer = find_patch_embed(model)
    stock = PatchEmbed(layer.in_channels, layer.embed_dims, kernel_size=layer.patch_size, stride=layer.patch_size,
                       padding='corner')
    stock.projection = layer.base
    layer.forward = stock.forward    # other methods of the layer stay
    return model
