"""Tiny models of each host for the export, in eval mode, with configs as the tools give them."""
from __future__ import annotations

from typing import Any

import det_helpers
import torch
from helpers import randomize
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mspe_mm.cls
import mspe_mm.seg  # noqa: F401

NORMALISED = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def config(name: str, **changes: Any) -> ConfigDict:
    """The ``model`` of the config of one of the models below."""
    return ConfigDict(**{**CONFIGS[name](), **changes})


def _segmentor() -> dict:
    """SETR of 5 classes for 64 x 96 px, 4 x 6 tokens."""
    return dict(
        type='MSPEEncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(),
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96), bgr_to_rgb=True, **NORMALISED),
        backbone=dict(type='MSPEViT', img_size=(64, 96), embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1)),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=1, num_classes=5, num_convs=1, up_scale=4,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN')))


def _segformer() -> dict:
    """A converted SegFormer for 64 x 96 px, 16 x 24 tokens, whose patches overlap."""
    return dict(
        _segmentor(), patch_embed=dict(base_resolution=(64, 96)),
        backbone=dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]),
        decode_head=dict(type='SegformerHead', in_channels=[8, 16, 16, 32], in_index=[0, 1, 2, 3], channels=8, num_classes=5,
                         align_corners=False, norm_cfg=dict(type='BN')))


def _swin() -> dict:
    """A converted Swin, whose windows do not fit on the grid of 16 x 24 tokens."""
    return dict(
        _segformer(),
        backbone=dict(type='SwinTransformer', embed_dims=16, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), window_size=5,
                      out_indices=(0, 1)),
        decode_head=dict(type='FCNHead', in_channels=32, in_index=1, channels=8, num_convs=1, num_classes=5,
                         align_corners=True, norm_cfg=dict(type='BN')))


def _classifier() -> dict:
    """A timm ViT of 4 classes for 64 px, 4 x 4 tokens."""
    return dict(type='MSPEClassifier', timm_name='vit_tiny_patch16_224',
                model_kwargs=dict(img_size=64, embed_dim=32, depth=2, num_heads=2, num_classes=4))


CONFIGS = dict(segmentor=_segmentor, segformer=_segformer, swin=_swin, classifier=_classifier,
               detector=det_helpers.mask_rcnn)    # on a ViTDet for 64 px, 4 x 4 tokens
SCOPES = dict(classifier='mmengine', detector='mmdet')


def model_of(name: str, backbone: dict | None = None, preprocessor: dict | None = None, **changes: Any) -> nn.Module:
    """One of :data:`CONFIGS`, with further keys of its backbone and data preprocessor; the weights are always the same."""
    init_default_scope(SCOPES.get(name, 'mmseg'))
    torch.manual_seed(0)
    cfg = config(name, **changes)
    if backbone:
        cfg.backbone.update(backbone)
    if preprocessor:
        cfg.data_preprocessor.update(preprocessor)
    return randomize(MODELS.build(cfg)).eval()
