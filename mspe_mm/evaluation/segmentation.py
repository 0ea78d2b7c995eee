"""Semantic segmentation in the sweep."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..seg import metric  # noqa: F401  registers BootstrapIoUMetric
from ..seg.windows import scaled_windows

HEADLINE_METRICS = ('mIoU', )
TABLE_METRICS = ('mIoU', 'mAcc', 'mFscore', 'aAcc')


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, with F-score and intervals added to its ``IoUMetric``."""
    if isinstance(config, (list, tuple)):
        return [evaluator_config(item, bootstrap) for item in config]
    if config['type'] != 'IoUMetric':
        return config
    return dict(config, type='BootstrapIoUMetric', iou_metrics=['mIoU', 'mFscore'], bootstrap=bootstrap)


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """Converts values to float; names are unchanged."""
    return {name: float(value) for name, value in metrics.items()}


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of a batch of images of ``resolution``: the same."""
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """Within the context, the sliding windows of ``model`` are scaled by ``scale`` (vertical, horizontal)."""
    before = model.test_cfg
    if before.get('mode') == 'slide':
        model.test_cfg = scaled_windows(before, scale)
    try:
        yield
    finally:
        model.test_cfg = before
