"""The config of a stock model, with the MSPE layer: the changes that a user would make by hand."""
from __future__ import annotations

import copy
import math

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ..errors import InputError

PRIOR_CORRELATION = 0.99
"""Correlation of neighbouring pixels that untuned kernels are resized for: that of photographs."""

PACKAGES = {'mmseg': 'mspe_mm.seg', 'mmdet': 'mspe_mm.det', 'mmengine': 'mspe_mm.cls'}
BACKBONES = {'VisionTransformer': 'MSPEViT', 'ViT': 'MSPEViTDet'}
"""Stock backbones that have an MSPE version; others are given the layer by ``patch_embed``."""


def with_mspe(cfg: Config, correlation: float = PRIOR_CORRELATION) -> Config:
    """A copy of a config whose model has the MSPE layer, and whose test pipelines leave small images at their size.

    A model that has the layer keeps it; its pipelines are changed all the same.

    Args:
        cfg: The config of a stock model of mmseg or mmdet, or of one of this package.
        correlation: Of neighbouring pixels, see :class:`~mspe_mm.layers.downsampling.Downsampling`.

    Raises:
        InputError: If the model has no counterpart with the layer, or its base resolution cannot be told.
    """
    cfg = copy.deepcopy(cfg)
    scope = cfg.get('default_scope')
    if scope not in PACKAGES:
        raise InputError(f'default_scope is {scope!r}: give a config of {", ".join(PACKAGES)}')
    imports = cfg.get('custom_imports') or dict(imports=[])
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    cfg.custom_imports = dict(imports=list(dict.fromkeys([*names, PACKAGES[scope]])), allow_failed_imports=False)
    __import__(PACKAGES[scope])
    if not str(cfg.model.type).startswith('MSPE'):
        _convert_model(cfg, scope, correlation)
    keep_small_images(cfg)
    return cfg


def _convert_model(cfg: Config, scope: str, correlation: float) -> None:
    model, downsampling = cfg.model, dict(correlation=correlation)
    target = 'MSPEClassifier' if model.type == 'TimmClassifier' else f'MSPE{model.type}'
    init_default_scope(scope)
    if MODELS.get(target) is None:
        raise InputError(f'there is no {target}: the model {model.type!r} cannot be given the MSPE layer by its config')
    resolution = None if scope == 'mmengine' else base_resolution(cfg)
    model.type = target
    if scope == 'mmengine':
        model.patch_embed = dict(downsampling=downsampling)
        return
    backbone = model.backbone
    if backbone.type in BACKBONES:
        backbone.type = BACKBONES[backbone.type]
        backbone.downsampling = downsampling
        patch_size = backbone.get('patch_size', 16)
    else:
        model.patch_embed = dict(base_resolution=resolution, downsampling=downsampling)
        patch_size = backbone.get('patch_size', 4)
    if scope == 'mmdet' and model.data_preprocessor.type == 'DetDataPreprocessor':
        # The canvas is filled with the mean, as padding after normalisation fills it with zeros.
        mean = model.data_preprocessor.get('mean') or [0.]
        model.data_preprocessor.update(
            type='MSPEDetDataPreprocessor', img_size=resolution, patch_size=patch_size,
            canvas_value=list(mean[::-1] if model.data_preprocessor.get('bgr_to_rgb') else mean))
        model.data_preprocessor.pop('pad_size_divisor', None)


def base_resolution(cfg: Config) -> tuple[int, int]:
    """(height, width) in pixels that a config's model was trained at.

    A segmentor's is its ``backbone.img_size``, its crop, or the ``data_preprocessor.size``. A detector's is its
    ``backbone.img_size``, or the square canvas that holds the images of its test pipeline.

    Raises:
        InputError: If the config says none of these.
    """
    model = cfg.model
    stated = model.backbone.get('img_size')
    if stated is None and cfg.get('default_scope') == 'mmdet':
        scales = [step['scale'] for step in _test_pipeline(cfg) if step.get('type') in ('Resize', 'ResizeIfLarger')]
        if scales:
            longest = max(scales[0]) if not isinstance(scales[0], int) else scales[0]
            return (math.ceil(longest / 32) * 32, ) * 2
    test_cfg, preprocessor = model.get('test_cfg') or {}, model.get('data_preprocessor') or {}
    for value in (stated, test_cfg.get('crop_size'), preprocessor.get('size'), cfg.get('crop_size')):
        if value is not None:
            return (value, value) if isinstance(value, int) else tuple(value)
    raise InputError(f'{cfg.filename or "the config"} does not say at which resolution its model was trained: add '
                     'model.backbone.img_size or crop_size')


def keep_small_images(cfg: Config) -> None:
    """Have the test pipelines of a config, in place, resize images only where they are larger than the base resolution."""
    for pipeline in _pipelines(cfg):
        for step in pipeline:
            if step.get('type') == 'Resize' and step.get('scale') is not None:
                step['type'] = 'ResizeIfLarger'


def _test_pipeline(cfg: Config) -> list[dict]:
    return next(iter(_pipelines(cfg)), [])


def _pipelines(cfg: Config) -> list[list[dict]]:
    found = []
    for key in ('test_dataloader', 'val_dataloader'):
        dataset = (cfg.get(key) or {}).get('dataset')
        while dataset and 'pipeline' not in dataset and ('dataset' in dataset or 'datasets' in dataset):
            dataset = dataset.get('dataset') or dataset['datasets'][0]
        if dataset and dataset.get('pipeline'):
            found.append(dataset['pipeline'])
    if cfg.get('test_pipeline'):
        found.append(cfg['test_pipeline'])
    return found


IMAGES_SEEN = 5 * 20210
"""Training images of the paper's five epochs of ADE20K, for data sets that are read without epochs."""


def tuning_config(cfg: Config, checkpoint: str) -> Config:
    """The config that tunes the patch embedding of a stock model, by the paper's schedule.

    The data, the batch size and the sampler are those of ``cfg``. A sampler without epochs (mmseg's ``InfiniteSampler``)
    gets a schedule of iterations that sees as many images as the paper's.

    Args:
        cfg: The config that the model was trained with.
        checkpoint: Its weights.

    Raises:
        InputError: As :func:`with_mspe`, or if the config has no training data.
    """
    cfg = with_mspe(cfg)
    loader = cfg.get('train_dataloader')
    if not loader:
        raise InputError(f'{cfg.filename or "the config"} has no train_dataloader: give the config that the model was '
                         'trained with')
    scope = cfg.default_scope
    cfg.model.tuning = dict(objective='both' if scope == 'mmseg' else 'task')
    for part in (cfg.model, cfg.model.get('backbone') or {}):
        part.pop('pretrained', None)
        part.pop('init_cfg', None)    # load_from has all weights
    by_epoch = (loader.get('sampler') or {}).get('type') != 'InfiniteSampler'
    length = 5 if by_epoch else max(1, math.ceil(IMAGES_SEEN / loader.get('batch_size', 1)))
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
    warm_up = 1 if by_epoch else max(1, length // 5)
    step = dict(by_epoch=by_epoch, **(dict(convert_to_iter_based=True) if by_epoch else {}))
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, begin=0, end=warm_up, **step),
        dict(type='CosineAnnealingLR', eta_min=0, begin=warm_up, end=length, **step)]
    interval = 1 if by_epoch else max(1, length // 5)
    cfg.train_cfg = (dict(type='EpochBasedTrainLoop', max_epochs=length, val_interval=length) if by_epoch else
                     dict(type='IterBasedTrainLoop', max_iters=length, val_interval=length))
    cfg.setdefault('default_hooks', {}).checkpoint = dict(
        type='CheckpointHook', interval=interval, by_epoch=by_epoch, max_keep_ckpts=1)
    cfg.log_processor = dict(by_epoch=by_epoch)
    hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] != 'AdapterHook']
    cfg.custom_hooks = [*hooks, dict(type='AdapterHook', interval=interval, by_epoch=by_epoch)]
    cfg.load_from, cfg.resume = checkpoint, False
    cfg.pop('work_dir', None)
    return cfg
