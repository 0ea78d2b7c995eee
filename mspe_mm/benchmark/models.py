"""The models that are measured, in the sizes of ViT and DeiT. Their weights are the same in every process."""
from __future__ import annotations

import importlib
from functools import lru_cache

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import nn

from ..errors import InputError
from ..shipped import CONFIGS

SIZES = {'micro': (24, 4, 2), 'tiny': (192, 12, 3), 'small': (384, 12, 6), 'base': (768, 12, 12), 'large': (1024, 24, 16)}
"""Width, depth and heads. ``micro`` is for rehearsals: its times say nothing of larger models."""
NAMES = {'micro': 'ViT-micro', 'tiny': 'ViT-Ti', 'small': 'ViT-S', 'base': 'ViT-B', 'large': 'ViT-L'}
PATCH = 16
KERNELS = (4, 8, 12, 16)


def vit_settings(size: str, base: int) -> dict:
    """Config keys that ``MSPEViT`` and mmseg's ``VisionTransformer`` share."""
    width, depth, heads = SIZES[size]
    return dict(img_size=(base, base), patch_size=PATCH, patch_bias=True, embed_dims=width, num_layers=depth,
                num_heads=heads)


def vitdet_settings(size: str, base: int) -> dict:
    """Config keys that ``MSPEViTDet`` and ``ViT`` of mmdetection's ViTDet project share; one block in four is global."""
    width, depth, heads = SIZES[size]
    quarter = depth // 4
    windowed = [i for i in range(depth) if i % quarter != quarter - 1]
    return dict(img_size=base, patch_size=PATCH, embed_dim=width, depth=depth, num_heads=heads, window_size=14,
                window_block_indexes=windowed)


def vit(size: str, base: int, **changes) -> nn.Module:
    """``MSPEViT``."""
    return build('mmseg', dict(type='MSPEViT', **vit_settings(size, base), kernel_sizes=KERNELS, **changes))


def vitdet(size: str, base: int, **changes) -> nn.Module:
    """``MSPEViTDet``, with relative position tables that are not zero."""
    return build('mmdet', dict(type='MSPEViTDet', **vitdet_settings(size, base), use_rel_pos=True, rel_pos_zero_init=False,
                               kernel_sizes=KERNELS, **changes))


def same_weights(model: nn.Module, source: nn.Module) -> nn.Module:
    """Load the weights of ``source``, a model of this package, into ``model`` of a host; returns ``model``."""
    weights = {name: value for name, value in source.state_dict().items() if '.kernels.' not in name}
    model.load_state_dict(weights, strict=True)
    return model


def read_config(name: str) -> Config:
    """Read a config of the repository, by its path below ``configs/``."""
    if not (CONFIGS / name).is_file():
        raise InputError(f'{CONFIGS / name} does not exist: run the benchmark in a checkout of the repository')
    return Config.fromfile(CONFIGS / name)


def setr_settings(size: str, base: int) -> dict:
    """The settings in the config of a SETR-Naive that depend on its size."""
    width, depth, heads = SIZES[size]
    return dict(
        data_preprocessor=dict(size=(base, base)),
        backbone=dict(img_size=(base, base), embed_dims=width, num_layers=depth, num_heads=heads, out_indices=(depth - 1, )),
        decode_head=dict(in_channels=width))


def setr(size: str, base: int, tuning: dict | None = None, **backbone) -> nn.Module:
    """SETR-Naive as ``MSPEEncoderDecoder``."""
    cfg = read_config('_base_/models/setr_naive_vit-ti.py')
    cfg.merge_from_dict(dict(model=setr_settings(size, base)))
    cfg.merge_from_dict(dict(model=dict(
        type='MSPEEncoderDecoder', tuning=tuning, backbone=dict(type='MSPEViT', kernel_sizes=KERNELS, **backbone))))
    return build('mmseg', cfg.model)


def mask_rcnn(size: str, base: int, tuning: dict | None = None, **backbone) -> nn.Module:
    """Mask R-CNN on ViTDet as ``MSPEMaskRCNN``."""
    width = SIZES[size][0]
    cfg = read_config('_base_/models/vitdet_mask-rcnn_vit-b.py')
    cfg.merge_from_dict(dict(model=dict(
        type='MSPEMaskRCNN', tuning=tuning, data_preprocessor=dict(img_size=base),
        backbone=dict(vitdet_settings(size, base), drop_path_rate=0., kernel_sizes=KERNELS,
                      **{'kernel_policy': 'fixed', **backbone}),
        neck=dict(backbone_channel=width, in_channels=[width // 4, width // 2, width, width]))))
    return build('mmdet', cfg.model)


def build(host: str, cfg: dict) -> nn.Module:
    """Build a model of ``'mmseg'`` or ``'mmdet'``; its weights are the same in every call."""
    importlib.import_module('mspe_mm.seg' if host == 'mmseg' else 'mspe_mm.det')
    init_default_scope(host)
    _quiet()
    torch.manual_seed(0)
    model = importlib.import_module(f'{host}.registry').MODELS.build(cfg)
    model.init_weights()
    return model


@lru_cache
def _quiet() -> None:
    """Switch off mmengine's log of how each parameter was initialised."""
    MMLogger.get_instance('mspe_mm.benchmark', log_level='ERROR')


def compiled(model: nn.Module, compile: bool) -> nn.Module:
    """Compile the forward pass of ``model`` in place, if ``compile``; returns ``model``."""
    if compile:
        model.forward = torch.compile(model.forward)
    return model
