"""Object detection and instance segmentation in the sweep."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..det.data_preprocessor import MSPEDetDataPreprocessor
from ..errors import InputError
from ..models.find import find_patch_embed

HEADLINE_METRICS = ('box AP', 'mask AP')
AVERAGE_PRECISIONS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'APs': 'mAP_s', 'APm': 'mAP_m', 'APl': 'mAP_l'}
KINDS = {'box': 'bbox', 'mask': 'segm'}    # CocoMetric's names
TABLE_METRICS = tuple(f'{kind} {ap}' for kind in KINDS for ap in AVERAGE_PRECISIONS)


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, unchanged.

    Raises:
        InputError: If it measures no box or mask AP, or with ``bootstrap``.
    """
    if bootstrap:
        raise InputError('there are no intervals over images (--bootstrap) of average precisions: leave --bootstrap out')
    metrics = config if isinstance(config, (list, tuple)) else [config]
    coco = [metric for metric in metrics if metric['type'] == 'CocoMetric']
    if not coco:
        found = ', '.join(metric['type'] for metric in metrics)
        raise InputError(f'the multi-scale evaluation of a detector reads CocoMetric, and test_evaluator is {found}: give '
                         'the config a CocoMetric with the annotations in COCO format')
    if any(metric.get('format_only') for metric in coco):
        raise InputError('test_evaluator has format_only=True, which measures nothing: set it to False')
    if not {*KINDS.values()} & {*_kinds(coco[0])}:
        raise InputError(f'the multi-scale evaluation of a detector reports box and mask AP, and metric of CocoMetric is '
                         f"{coco[0]['metric']!r}: set it to 'bbox' or ['bbox', 'segm']")
    if 'mAP' not in _items(coco[0]):
        raise InputError('the multi-scale evaluation of a detector reports mAP: add it to metric_items of CocoMetric')
    return config


def _kinds(coco: dict) -> tuple[str, ...]:
    """The kinds of predictions that a ``CocoMetric`` compares: ``'bbox'``, ``'segm'``."""
    kinds = coco.get('metric', 'bbox')
    return (kinds, ) if isinstance(kinds, str) else tuple(kinds)


def _items(coco: dict) -> tuple[str, ...]:
    """The metrics of each kind that a ``CocoMetric`` measures: ``'mAP'``, ``'mAP_50'``, ..."""
    return tuple(coco.get('metric_items') or AVERAGE_PRECISIONS.values())


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """Average precisions in percent under the names of :data:`TABLE_METRICS`.

    Metrics that ``CocoMetric`` does not measure (``metric``, ``metric_items``) are absent. If a model detects nothing,
    ``CocoMetric`` returns no metrics, and the AP is 0. If an object size has no annotations, ``CocoMetric`` returns -1, and
    the AP is NaN.

    Args:
        metrics: Metrics that the evaluator returned.
        config: Config of the evaluator.
    """
    coco = next(metric for metric in (config if isinstance(config, (list, tuple)) else [config])
                if metric['type'] == 'CocoMetric')
    prefix = coco.get('prefix') or 'coco'
    found = {}
    for kind, host_kind in KINDS.items():
        for name, item in AVERAGE_PRECISIONS.items():
            if host_kind in _kinds(coco) and item in _items(coco):
                value = metrics.get(f'{prefix}/{host_kind}_{item}', 0.)
                found[f'{kind} {name}'] = float('nan') if value < 0 else value * 100
    return found


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of a batch of images of ``resolution``: the canvas that they are padded to."""
    if isinstance(model.data_preprocessor, MSPEDetDataPreprocessor):
        return model.data_preprocessor.canvas_size([resolution])
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """The canvas of a model with the stock patch embedding has whole stock patches.

    No other inference setting of a detector depends on the resolution: its heads see the reference frame.
    """
    preprocessor = model.data_preprocessor
    if not isinstance(preprocessor, MSPEDetDataPreprocessor):
        yield
        return
    before = preprocessor.stock_patches
    preprocessor.stock_patches = find_patch_embed(model).kernel_policy == 'constant'
    try:
        yield
    finally:
        preprocessor.stock_patches = before
