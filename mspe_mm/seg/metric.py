"""mIoU with intervals."""
from __future__ import annotations

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from ..bootstrap import interval, resampled_counts


@METRICS.register_module()
class BootstrapIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` with 95% bootstrap intervals over images.

    Args:
        bootstrap: Number of resamples; 0 for none.
        **kwargs: Arguments of ``IoUMetric``.
    """

    def __init__(self, *args, bootstrap: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.bootstrap = bootstrap

    def compute_metrics(self, results: list) -> dict:
        """The metrics of ``IoUMetric`` in percent, and with ``bootstrap`` also ``intervals`` {metric: [low, high]}."""
        metrics = dict(super().compute_metrics(results))
        if self.bootstrap:
            areas = [torch.stack(area).double() for area in zip(*results)]    # four of (images, classes)
            counts = torch.from_numpy(resampled_counts(len(results), self.bootstrap)).double()
            samples = [self._summary(totals) for totals in zip(*(counts @ area for area in areas))]
            metrics['intervals'] = {name: interval([sample[name] for sample in samples]) for name in samples[0]}
        return metrics

    def _summary(self, totals: tuple[torch.Tensor, ...]) -> dict[str, float]:
        by_class = self.total_area_to_metrics(*totals, self.metrics, self.nan_to_num, self.beta)
        return {name if name == 'aAcc' else f'm{name}': float(np.nanmean(value)) * 100
                for name, value in by_class.items()}
