"""The families of timm's plain Vision Transformers that the tests take as a backbone: timm's own models, tiny."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import timm
import torch
from helpers import randomize
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from torch import nn

import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.backbones import MSPETimmViT

CLASSES = 5    # of the heads

GRID = (4, 6)
SMALL = dict(embed_dim=32, depth=2, num_heads=2)
WINDOWS = dict(window_size=3, global_attn_indexes=(1, ), neck_chans=16)    # SAM's: a block in windows, and one without


class Family(NamedTuple):
    """A model's name in timm, its patch size, and what makes it small."""

    name: str
    patch: int
    changes: dict

    @property
    def size(self) -> tuple[int, int]:
        """The base resolution in the tests."""
        return GRID[0] * self.patch, GRID[1] * self.patch

    @property
    def kwargs(self) -> dict:
        return {**SMALL, **self.changes}


# The names are those of the documentation.
FAMILIES = {
    'DINOv2': Family('vit_small_patch14_dinov2', 14, {}),
    'DINOv2 with registers': Family('vit_small_patch14_reg4_dinov2', 14, {}),
    'DINOv3': Family('vit_small_patch16_dinov3', 16, {}),
    'SAM': Family('samvit_base_patch16', 16, WINDOWS),
    'EVA-02': Family('eva02_tiny_patch14_224', 14, {}),
    'SigLIP 2': Family('vit_base_patch16_siglip_512', 16, {}),
    'CLIP': Family('vit_base_patch16_clip_224', 16, {}),
    'DeiT III': Family('deit3_small_patch16_224', 16, {}),
    'PE core': Family('vit_pe_core_tiny_patch16_384', 16, {}),
    'PE spatial': Family('vit_pe_spatial_tiny_patch16_512', 16, {}),
}


def config(family: str, **changes) -> dict:
    """``MSPETimmViT`` with a tiny model of a family, as a dict of its arguments."""
    name, _, _ = FAMILIES[family]
    return {**dict(model_name=name, img_size=FAMILIES[family].size, out_indices=(0, 1),
                   model_kwargs=FAMILIES[family].kwargs), **changes}


def stock_vit(family: str, seed: int = 0) -> nn.Module:
    """timm's model, in eval mode, with no weight at a value that hides a mistake."""
    name, _, _ = FAMILIES[family]
    torch.manual_seed(seed)
    model = randomize(timm.create_model(name, img_size=FAMILIES[family].size, **FAMILIES[family].kwargs), seed)
    return model.eval().requires_grad_(False)


def backbone(family: str, seed: int = 0, **changes) -> MSPETimmViT:
    """``MSPETimmViT`` with the weights of :func:`stock_vit`, in eval mode."""
    model = MSPETimmViT(**config(family, **changes))
    own = {name for name in model.vit.state_dict() if '.kernels.' not in name}
    stock = {name: value for name, value in stock_vit(family, seed).state_dict().items() if name in own}
    model.vit.load_state_dict(stock, strict=True)
    return model.eval().requires_grad_(False)


def segmentor(family: str, **changes) -> nn.Module:
    """A linear head on the last map."""
    init_default_scope('mmseg')
    channels = 16 if family == 'SAM' else 32    # of SAM's neck
    return MMSEG_MODELS.build(dict(
        type='MSPEEncoderDecoder', tuning={}, backbone=dict(type='MSPETimmViT', **config(family)),
        data_preprocessor=dict(type='SegDataPreProcessor', size=FAMILIES[family].size),
        decode_head=dict(
            type='FCNHead', in_channels=channels, channels=channels, in_index=1, num_convs=0, concat_input=False,
            num_classes=CLASSES, align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
        train_cfg=dict(), test_cfg=ConfigDict(mode='whole'), **changes))


def detector(family: str) -> nn.Module:
    """RetinaNet on the simple pyramid."""
    init_default_scope('mmdet')
    channels, size = 16 if family == 'SAM' else 32, FAMILIES[family].size
    return MMDET_MODELS.build(ConfigDict(
        type='MSPERetinaNet', tuning={}, backbone=dict(type='MSPETimmViT', **config(family)),
        data_preprocessor=dict(type='MSPEDetDataPreprocessor', img_size=size, patch_size=FAMILIES[family].patch),
        neck=dict(type='MSPESimpleFPN', backbone_channel=channels, out_channels=8, num_outs=5,
                  in_channels=[channels // 4, channels // 2, channels, channels], norm_cfg=dict(type='MSPELN2d')),
        bbox_head=dict(
            type='RetinaHead', num_classes=CLASSES, in_channels=8, feat_channels=8, stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0],
                                  strides=[4, 8, 16, 32, 64])),
        train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                       allowed_border=-1, pos_weight=-1),
        test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0., nms=dict(type='nms', iou_threshold=0.5), max_per_img=5)))


def images_with_masks(size: tuple[int, int], mask_size: tuple[int, int], classes: int = CLASSES) -> dict:
    """A batch of mmseg: two images of ``size`` with masks of ``mask_size``, the base resolution."""
    random = np.random.default_rng(0)
    images = [torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8)) for _ in range(2)]
    masks = [torch.from_numpy(random.integers(0, classes, (1, *mask_size))) for _ in range(2)]
    meta = dict(ori_shape=mask_size, img_shape=size, pad_shape=size)
    return dict(inputs=images,
                data_samples=[SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=meta) for mask in masks])
