"""What the sweep needs to know of semantic segmentation."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS
from torch import nn

HEADLINE_METRICS = ('mIoU', )
TABLE_METRICS = ('mIoU', 'mAcc', 'mFscore', 'aAcc')


@METRICS.register_module()
class BootstrapIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` with 95% bootstrap intervals over images.

    Args:
        bootstrap: Number of resamples; 0 for none.
        **kwargs: The host's.
    """

    def __init__(self, *args, bootstrap: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.bootstrap = bootstrap

    def compute_metrics(self, results: list) -> dict:
        """The host's metrics in percent, and ``intervals`` {metric: [low, high]} with ``bootstrap``."""
        metrics = dict(super().compute_metrics(results))
        if self.bootstrap:
            areas = [torch.stack(area).double() for area in zip(*results)]    # four of (images, classes)
            # The same resamples for every method and resolution, so that their rows can be compared.
            counts = np.random.default_rng(0).multinomial(len(results), np.full(len(results), 1 / len(results)),
                                                          size=self.bootstrap)
            totals = [torch.from_numpy(counts).double() @ area for area in areas]
            samples = [self._summary(resample) for resample in zip(*totals)]
            metrics['intervals'] = {name: np.percentile([sample[name] for sample in samples], (2.5, 97.5)).tolist()
                                    for name in samples[0]}
        return metrics

    def _summary(self, totals: tuple[torch.Tensor, ...]) -> dict[str, float]:
        by_class = self.total_area_to_metrics(*totals, self.metrics, self.nan_to_num, self.beta)
        return {name if name == 'aAcc' else f'm{name}': float(np.nanmean(value)) * 100
                for name, value in by_class.items()}


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, its ``IoUMetric`` with F-score and intervals."""
    if isinstance(config, (list, tuple)):
        return [evaluator_config(item, bootstrap) for item in config]
    if config['type'] != 'IoUMetric':
        return config
    return dict(config, type='BootstrapIoUMetric', iou_metrics=['mIoU', 'mFscore'], bootstrap=bootstrap)


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """The evaluator's figures are in percent and well named."""
    return {name: float(value) for name, value in metrics.items()}


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of the batch that an image of ``resolution`` becomes."""
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """Within the context, sliding windows are those of the base resolution times ``scale`` (vertical, horizontal)."""
    before = model.test_cfg
    if before.get('mode') == 'slide':
        model.test_cfg = type(before)(before, **{
            key: tuple(max(1, round(length * factor)) for length, factor in zip(before[key], scale))
            for key in ('crop_size', 'stride')})
    try:
        yield
    finally:
        model.test_cfg = before
