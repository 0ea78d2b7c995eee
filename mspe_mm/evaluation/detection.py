"""What the sweep needs to know of object detection and instance segmentation."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..det.data_preprocessor import MSPEDetDataPreprocessor
from ..det.frame import canvas_size
from ..errors import InputError
from ..models.find import find_patch_embed

HEADLINE_METRICS = ('box AP', 'mask AP')
AVERAGE_PRECISIONS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'APs': 'mAP_s', 'APm': 'mAP_m', 'APl': 'mAP_l'}
KINDS = {'box': 'bbox', 'mask': 'segm'}    # CocoMetric's names
TABLE_METRICS = tuple(f'{kind} {ap}' for kind in KINDS for ap in AVERAGE_PRECISIONS)


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, as it is.

    Raises:
        InputError: If its figures cannot be read, or intervals are wanted.
    """
    if bootstrap:
        raise InputError('intervals over images (--bootstrap) exist for segmentation only: leave --bootstrap out')
    metrics = config if isinstance(config, (list, tuple)) else [config]
    coco = [metric for metric in metrics if metric['type'] == 'CocoMetric']
    if not coco:
        found = ', '.join(metric['type'] for metric in metrics)
        raise InputError(f'the multi-scale evaluation of a detector reads CocoMetric, and test_evaluator is {found}: give '
                         'the config a CocoMetric with the annotations in COCO format')
    if any(metric.get('format_only') for metric in coco):
        raise InputError('test_evaluator has format_only=True, which measures nothing: set it to False')
    return config


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """Average precisions in percent under the names of :data:`TABLE_METRICS`.

    A model that detects nothing has an AP of 0, where ``CocoMetric`` returns no figure at all. An object size without
    annotations has none, where it returns -1.

    Args:
        metrics: What the evaluator returned.
        config: The evaluator's config.
    """
    coco = next(metric for metric in (config if isinstance(config, (list, tuple)) else [config])
                if metric['type'] == 'CocoMetric')
    measured = coco.get('metric', 'bbox')
    measured = (measured, ) if isinstance(measured, str) else measured
    prefix = coco.get('prefix') or 'coco'
    found = {}
    for kind, host_kind in KINDS.items():
        if host_kind not in measured:
            continue
        for name, host_name in AVERAGE_PRECISIONS.items():
            value = metrics.get(f'{prefix}/{host_kind}_{host_name}', 0.)
            found[f'{kind} {name}'] = float('nan') if value < 0 else value * 100
    return found


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of the batch that an image of ``resolution`` becomes: its canvas."""
    if isinstance(model.data_preprocessor, MSPEDetDataPreprocessor):
        return canvas_size([resolution], find_patch_embed(model).grid_size)
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """Nothing of a detector depends on the resolution: its heads see the reference frame."""
    yield
