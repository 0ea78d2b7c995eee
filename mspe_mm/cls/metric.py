"""Accuracy in percent."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from ..bootstrap import interval, resampled_counts
from .class_checks import check_classes


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Share of images, in percent, whose label is among the k highest scores.

    Ties are broken in favour of the lower class, as by a stable sort. A score that is NaN never counts as correct.

    Args:
        topk: The k's.
        bootstrap: Resamples of the images for 95% intervals; 0 for none.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, topk: Sequence[int] = (1, 5), bootstrap: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk, self.bootstrap = tuple(topk), bootstrap

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Store the rank of the label among the scores; 0 is the highest score.

        Raises:
            InputError: If the model and the data set differ in their number of classes.
        """
        for sample in data_samples:
            scores, label = sample['pred_score'], int(sample['gt_label'])
            check_classes(self.dataset_meta.get('classes'), len(scores))
            before = ~(scores <= scores[label])
            before[:label] |= scores[:label] == scores[label]
            self.results.append(int(before.sum()))

    def compute_metrics(self, results: list[int]) -> dict:
        """``top-k`` for each k, and with ``bootstrap`` also ``intervals`` {metric: [low, high]}."""
        ranks = np.array(results)
        metrics: dict = {f'top-{k}': float((ranks < k).mean()) * 100 for k in self.topk}
        if self.bootstrap:
            counts = resampled_counts(len(ranks), self.bootstrap)
            metrics['intervals'] = {f'top-{k}': interval(counts @ (ranks < k) / len(ranks) * 100) for k in self.topk}
        return metrics
