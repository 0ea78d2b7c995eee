"""The hosts' models that the tests convert: each as its own library builds it, tiny."""
from __future__ import annotations

import copy
import dataclasses

import timm
import torch
import torch.nn.functional as F
from helpers import randomize, timm_resample
from mmdet.models import backbones as mmdet_backbones
from mmseg.models import backbones as mmseg_backbones
from timm.models.mvitv2 import MultiScaleVit, model_cfgs
from torch import Tensor, nn

from mspe_mm.core import MultiScalePatchEmbed, PatchGeometry

BASES = {16: (64, 96), 14: (56, 84), 4: (32, 64)}    # base resolution by patch size
VIT = dict(img_size=BASES[16], embed_dims=32, num_layers=2, num_heads=2)
SWIN = dict(embed_dims=16, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), window_size=4, out_indices=(0, 1))
PYRAMID = dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
TIMM_VIT = dict(img_size=BASES[16], embed_dim=32, depth=2, num_heads=2, num_classes=5)


def mvitv2() -> nn.Module:
    cfg = dataclasses.replace(
        model_cfgs['mvitv2_tiny'], depths=(1, 1, 1, 1), embed_dim=(16, 32, 32, 32), num_heads=(1, 2, 2, 2))
    return MultiScaleVit(cfg, img_size=(64, 64), num_classes=5)


# Name in the documentation, patch size, constructor.
MODELS = {
    'mmseg `VisionTransformer`': (16, lambda: mmseg_backbones.VisionTransformer(out_indices=(0, 1), **VIT)),
    'mmseg `BEiT`': (16, lambda: mmseg_backbones.BEiT(out_indices=(0, 1), **VIT)),
    'mmseg `MAE`': (16, lambda: mmseg_backbones.MAE(out_indices=(0, 1), **VIT)),
    'mmseg `SwinTransformer`': (4, lambda: mmseg_backbones.SwinTransformer(**SWIN)),
    'mmseg `MixVisionTransformer`': (4, lambda: mmseg_backbones.MixVisionTransformer(**PYRAMID)),
    'mmdet `SwinTransformer`': (4, lambda: mmdet_backbones.SwinTransformer(**SWIN)),
    'mmdet `PyramidVisionTransformerV2`': (4, lambda: mmdet_backbones.PyramidVisionTransformerV2(**PYRAMID)),
    'timm `vit_*`': (16, lambda: timm.create_model('vit_tiny_patch16_224', **TIMM_VIT)),
    'timm `deit3_*`': (16, lambda: timm.create_model('deit3_small_patch16_224', **TIMM_VIT)),
    'timm `flexivit_*`': (16, lambda: timm.create_model('flexivit_small', **TIMM_VIT)),
    'timm `swin_*`': (4, lambda: timm.create_model(
        'swin_tiny_patch4_window7_224', img_size=BASES[4], window_size=4, embed_dim=16, depths=(2, 2), num_heads=(1, 2),
        num_classes=5)),
    'timm `pvt_v2_*`': (4, lambda: timm.create_model(
        'pvt_v2_b0', embed_dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), num_classes=5)),
    'timm `mvitv2_*`': (4, mvitv2),
    'timm `eva02_*` (patch 14)': (14, lambda: timm.create_model(
        'eva02_tiny_patch14_224', **{**TIMM_VIT, 'img_size': BASES[14]})),
    'timm `vit_*_dinov2` (patch 14)': (14, lambda: timm.create_model(
        'vit_small_patch14_dinov2', **{**TIMM_VIT, 'img_size': BASES[14]})),
    'timm `beitv2_*`': (16, lambda: timm.create_model('beitv2_base_patch16_224', **TIMM_VIT)),
}


def stock_model(name: str, seed: int = 0) -> nn.Module:
    """The host's model in eval mode, frozen, with no number of it at a value that hides a mistake."""
    torch.manual_seed(seed)
    model = randomize(MODELS[name][1](), seed)
    model.eval()    # mmseg's return None
    return model.requires_grad_(False)    # matmul picks its kernel by requires_grad, so all compared models are frozen


def base_resolution(name: str) -> tuple[int, int]:
    return (64, 64) if 'mvitv2' in name else BASES[MODELS[name][0]]    # whose relative positions are for squares


def at_patch(name: str, patch: int) -> tuple[int, int]:
    """The resolution that has the base token grid with patches of ``patch`` px."""
    return tuple(length // MODELS[name][0] * patch for length in base_resolution(name))


def outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """All that a model gives: mm's features of every stage, timm's intermediates and logits."""
    if hasattr(model, 'forward_intermediates'):
        return [*model.forward_intermediates(x, intermediates_only=True), model.forward_features(x), model(x)]
    return list(model(x))


def first_embedding(model: nn.Module) -> nn.Module:
    """Where the hosts keep the embedding of the image."""
    return model.patch_embed if hasattr(model, 'patch_embed') else model.layers[0][0]


def resized_by_timm(stock: nn.Module, patch: int) -> nn.Module:
    """The host's model for another patch size: its own kernel, resampled by timm, in a plain convolution.

    A kernel larger than its patch is resampled with the zeros around it that make whole pixels at both resolutions.
    """
    model = copy.deepcopy(stock)
    embedding = first_embedding(model)
    (name, conv), = [(name, child) for name, child in embedding.named_children() if isinstance(child, nn.Conv2d)]
    size, kernel = conv.stride[0], conv.kernel_size[0]
    before, after = PatchGeometry(size, kernel).reach(patch)
    weight = conv.weight
    if kernel != size:
        pad = {1: (1, 4), 2: (1, 2), 8: (0, 0)}[patch]    # of 7 px on 4 px patches: 12, 10 and 7 px
        weight = F.pad(weight, (*pad, *pad))
    resized = nn.Conv2d(conv.in_channels, conv.out_channels, before + after, stride=patch, padding=before,
                        bias=conv.bias is not None)
    resized.weight.data = timm_resample(weight, (before + after, before + after), 'bilinear', True)
    if conv.bias is not None:
        resized.bias.data = conv.bias.data
    setattr(embedding, name, resized)
    embedding.adap_padding = None    # the sizes are whole patches
    if hasattr(embedding, 'strict_img_size'):
        embedding.patch_size, embedding.img_size = (patch, patch), None
    return model.requires_grad_(False)


def layer_in(model: nn.Module) -> MultiScalePatchEmbed:
    """The MSPE layer where the hosts keep their embedding."""
    layer = first_embedding(model)
    assert isinstance(layer, MultiScalePatchEmbed)
    return layer
