"""Tiny models of each host for the export, in eval mode, with configs as the tools give them."""
from __future__ import annotations

from typing import Any

import det_helpers
import torch
from helpers import randomize
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS as SEGMENTORS
from torch import nn

import mspe_mm.seg  # noqa: F401
from mspe_mm.cls import MSPEClassifier

NORMALISED = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])


def segmentor(backbone: dict | None = None, preprocessor: dict | None = None, **changes: Any) -> nn.Module:
    """SETR of 5 classes for 64 x 96 px, 4 x 6 tokens."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return randomize(SEGMENTORS.build(ConfigDict(**{**dict(
        type='MSPEEncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(),
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96), bgr_to_rgb=True, **NORMALISED,
                               **(preprocessor or {})),
        backbone=dict(type='MSPEViT', img_size=(64, 96), embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1),
                      **(backbone or {})),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=1, num_classes=5, num_convs=1, up_scale=4,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN'))), **changes}))).eval()


def segformer(**changes: Any) -> nn.Module:
    """A converted SegFormer for 64 x 96 px, 16 x 24 tokens, whose patches overlap."""
    backbone = dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
    head = dict(type='SegformerHead', in_channels=[8, 16, 16, 32], in_index=[0, 1, 2, 3], channels=8, num_classes=5,
                align_corners=False, norm_cfg=dict(type='BN'))
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return randomize(SEGMENTORS.build(ConfigDict(**{**dict(
        type='MSPEEncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(),
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96), bgr_to_rgb=True, **NORMALISED),
        backbone=backbone, decode_head=head, patch_embed=dict(base_resolution=(64, 96))), **changes}))).eval()


def swin(**changes: Any) -> nn.Module:
    """A converted Swin of windows that do not fit the grid of 16 x 24 tokens."""
    backbone = dict(type='SwinTransformer', embed_dims=16, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), window_size=5,
                    out_indices=(0, 1))
    head = dict(type='FCNHead', in_channels=32, in_index=1, channels=8, num_convs=1, num_classes=5, align_corners=True,
                norm_cfg=dict(type='BN'))
    return segformer(backbone=backbone, decode_head=head, **changes)


def classifier(**changes: Any) -> nn.Module:
    """A timm ViT of 4 classes for 64 px, 4 x 4 tokens."""
    init_default_scope('mmengine')
    torch.manual_seed(0)
    return randomize(MSPEClassifier('vit_tiny_patch16_224', **{**dict(
        model_kwargs=dict(img_size=64, embed_dim=32, depth=2, num_heads=2, num_classes=4)), **changes})).eval()


def detector(**changes: Any) -> nn.Module:
    """Mask R-CNN on a ViTDet for 64 px, 4 x 4 tokens."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return randomize(DETECTORS.build(det_helpers.mask_rcnn(**changes))).eval()
