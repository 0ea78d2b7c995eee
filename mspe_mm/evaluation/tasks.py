"""Which task a config is of: the sweep asks the same questions of each task's module.

* ``HEADLINE_METRICS``: the metrics that a report is about; ``TABLE_METRICS``: all that its full table has.
* ``evaluator_config(config, bootstrap)``: the config's evaluator, as the sweep wants it.
* ``read_metrics(metrics, config)``: the evaluator's figures in percent, by the names of ``TABLE_METRICS``.
* ``batch_size(model, resolution)``: (height, width) of the batch that an image of that resolution becomes.
* ``scaled_inference(model, scale)``: a context in which the model takes images of other than the base resolution.
"""
from __future__ import annotations

from importlib import import_module
from types import ModuleType

from mmengine.config import Config

from ..errors import InputError

MODULES = {'mmseg': 'segmentation', 'mmdet': 'detection', 'mmengine': 'classification'}    # timm has no scope of its own


def task_of(cfg: Config) -> ModuleType:
    """The module of the task that ``cfg`` is a config of; its host library is imported here and not before.

    Raises:
        InputError: If ``default_scope`` names no host of a known task.
    """
    scope = cfg.get('default_scope')
    if scope not in MODULES:
        raise InputError(f'default_scope is {scope!r}, and the multi-scale evaluation is for '
                         f'{", ".join(map(repr, MODULES))}')
    return import_module(f'.{MODULES[scope]}', __package__)
