"""The config of a stock model, with the MSPE layer: the changes that a user would make by hand."""
from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from importlib import import_module

from mmengine.config import Config
from mmengine.registry import MODELS

from ..errors import InputError
from ..layers.downsampling import PRIOR_CONTEXT, PRIOR_CORRELATION
from ..layers.resolution import default_kernel_sizes
from ..tuning.tuned_model import TunedModel
from .config_errors import PLUGINS
from .data_checks import leaf_configs

BACKBONES = {'VisionTransformer': 'MSPEViT', 'ViT': 'MSPEViTDet'}
"""Stock backbones that have an MSPE version; others are given the layer by ``patch_embed``."""


def with_mspe(cfg: Config) -> Config:
    """A copy of a config whose model has the MSPE layer, and whose test pipelines leave small images at their size.

    The untuned kernels are the prior: resized for correlated pixels, with context. A model that has the layer keeps it; its
    pipelines are changed all the same.

    Args:
        cfg: The config of a stock model of mmseg or mmdet, or of one of this package.

    Raises:
        InputError: If the model has no counterpart with the layer, or its base resolution cannot be told.
    """
    cfg = copy.deepcopy(cfg)
    scope = cfg.get('default_scope')
    if scope not in PLUGINS:
        raise InputError(f'default_scope of {cfg.filename or "the config"} is {scope!r}: it must be one of '
                         f'{", ".join(PLUGINS)}')
    if not isinstance(cfg.model.type, str):
        raise InputError(f'{cfg.filename or "the config"} names classes, as pure Python configs do: give a config that '
                         'names types by strings')
    add_import(cfg, PLUGINS[scope])
    import_module(PLUGINS[scope])
    model_class = _registered(cfg.model.type, scope)
    if not (isinstance(model_class, type) and issubclass(model_class, TunedModel)):
        _convert_model(cfg, scope)
    keep_small_images(cfg)
    return cfg


def _registered(name: str, scope: str) -> type | None:
    """The model class that a host's registry has under a name."""
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.get(name)


def add_import(cfg: Config, module: str) -> None:
    """Have a config import a module, in place."""
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    names = [imports] if isinstance(imports, str) else list(imports)
    cfg.custom_imports = dict(imports=list(dict.fromkeys([*names, module])), allow_failed_imports=False)


def _convert_model(cfg: Config, scope: str) -> None:
    model, prior = cfg.model, dict(context=PRIOR_CONTEXT, downsampling=dict(correlation=PRIOR_CORRELATION))
    target = 'MSPEClassifier' if model.type == 'TimmClassifier' else f'MSPE{model.type}'
    if _registered(target, scope) is None:
        raise InputError(f'there is no {target}, so the model {model.type!r} of {cfg.filename or "the config"} cannot be '
                         'given the MSPE layer by its config: in Python, mspe_mm.convert_patch_embed converts its backbone')
    resolution = None if scope == 'mmengine' else base_resolution(cfg)
    model.type = target
    if scope == 'mmengine':
        model.patch_embed = prior
        return
    backbone, settings = model.backbone, dict(kernel_policy='fixed', **prior)
    if scope == 'mmseg' and (model.get('test_cfg') or {}).get('mode', 'whole') == 'whole':
        settings['kernel_policy'] = 'isotropic'    # whole images have any aspect ratio, and the base grid would squeeze them
    ours = backbone.type in BACKBONES or backbone.type in BACKBONES.values()
    if ours and _pair(backbone.get('img_size')) == resolution:
        patch_size = backbone.get('patch_size', 16)
        backbone.type = BACKBONES.get(backbone.type, backbone.type)
        backbone.update(settings, kernel_sizes=default_kernel_sizes(patch_size))
    else:
        model.patch_embed = dict(base_resolution=resolution, **settings)
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

    A segmentor's is the size of its training batches (``data_preprocessor.size``, ``crop_size``), of its sliding windows,
    ``backbone.img_size``, or where whole images are tested a square of the short side to which the test pipeline resizes
    them. A detector's is ``backbone.img_size``, or the square canvas that holds the images of its test pipeline.

    Raises:
        InputError: If the config says none of these.
    """
    model = cfg.model
    stated = _pair(model.backbone.get('img_size'))
    scales = [_pair(step['scale']) for pipeline in _pipelines(cfg) for step in pipeline
              if step.get('type') in ('Resize', 'ResizeIfLarger') and step.get('scale')]
    if cfg.get('default_scope') == 'mmdet':
        if scales and stated is None:
            return (math.ceil(max(scales[0]) / 32) * 32, ) * 2
        found = [stated]
    else:
        test_cfg, preprocessor = model.get('test_cfg') or {}, model.get('data_preprocessor') or {}
        whole = scales and test_cfg.get('mode', 'whole') == 'whole'
        found = [*map(_pair, (preprocessor.get('size'), cfg.get('crop_size'), test_cfg.get('crop_size'))), stated,
                 _pair(min(scales[0])) if whole else None]
    for size in found:
        if size is not None:
            return size
    raise InputError(f'{cfg.filename or "the config"} does not say at which resolution its model was trained: add '
                     'model.backbone.img_size or crop_size')


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size and (size[0], size[1])


def keep_small_images(cfg: Config) -> None:
    """Have the test pipelines of a config, in place, resize images only where they are larger than the base resolution.

    Sliding windows, which are made for images of that size, shrink with smaller ones.
    """
    test_cfg = cfg.model.get('test_cfg') or {}
    for pipeline in _pipelines(cfg):
        for step in pipeline:
            if step.get('type') == 'Resize' and step.get('scale') is not None:
                step['type'] = 'ResizeIfLarger'
                if test_cfg.get('mode') == 'slide' and step.get('keep_ratio'):
                    test_cfg.setdefault('scale', step['scale'])
            elif step.get('type') == 'TimmTransform':
                step['keep_small'] = True


def test_dataset(cfg: Config) -> dict:
    """The config of the data set that a config is tested on, without wrappers such as ``ConcatDataset``.

    Raises:
        InputError: If there is none with a pipeline.
    """
    loader = cfg.get('test_dataloader') or {}
    found = [leaf for leaf in (leaf_configs(loader['dataset']) if loader.get('dataset') else []) if leaf.get('pipeline')]
    if not found:
        raise InputError(f'{cfg.filename or "the config"} has no test_dataloader whose dataset has a pipeline: it says how '
                         'images are prepared')
    return found[0]


def _pipelines(cfg: Config) -> list[list[dict]]:
    loaders = [cfg.get(key) or {} for key in ('test_dataloader', 'val_dataloader')]
    data_sets = [leaf for loader in loaders if loader.get('dataset') for leaf in leaf_configs(loader['dataset'])]
    return [found['pipeline'] for found in [*data_sets, dict(pipeline=cfg.get('test_pipeline'))] if found.get('pipeline')]
