"""The task of a config. The module of each task has the same interface:

* ``HEADLINE_METRICS``: metrics with a table and a panel each; ``TABLE_METRICS``: metrics of the full table.
* ``evaluator_config(config, bootstrap)``: the config's evaluator, with the metrics and intervals that the sweep adds.
* ``read_metrics(metrics, config)``: the evaluator's metrics in percent, by the names of ``TABLE_METRICS``.
* ``batch_size(model, resolution)``: (height, width) in pixels of a batch of images of that resolution.
* ``scaled_inference(model, scale)``: a context in which inference settings in pixels are scaled with the images.
"""
from __future__ import annotations

from importlib import import_module
from types import ModuleType

from mmengine.config import Config

from ..errors import InputError

MODULES = {'mmseg': 'segmentation', 'mmdet': 'detection', 'mmengine': 'classification'}    # timm has no scope of its own


def task_of(cfg: Config) -> ModuleType:
    """The module of a config's task. Its host library is imported here and not before.

    Raises:
        InputError: If ``default_scope`` is not one of :data:`MODULES`.
    """
    scope = cfg.get('default_scope')
    if scope not in MODULES:
        raise InputError(f'default_scope is {scope!r}, and the multi-scale evaluation is for '
                         f'{", ".join(map(repr, MODULES))}')
    return import_module(f'.{MODULES[scope]}', __package__)
