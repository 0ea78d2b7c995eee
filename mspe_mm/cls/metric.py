"""Accuracy in percent."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from .class_checks import check_classes


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Share of images, in percent, whose label is among the k highest scores.

    Of equal scores the lower class goes first, as in a stable sort; a score that is not a number is never right.

    Args:
        topk: The k's.
        bootstrap: Resamples of the images for 95% intervals; 0 for none.
        **kwargs: mmengine's.
    """

    def __init__(self, topk: Sequence[int] = (1, 5), bootstrap: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk, self.bootstrap = tuple(topk), bootstrap

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep the place of the label, from 0, in the order of ``pred_score``.

        Raises:
            InputError: If the model has another number of classes than the data set.
        """
        for sample in data_samples:
            scores, label = sample['pred_score'], int(sample['gt_label'])
            check_classes(self.dataset_meta.get('classes'), len(scores))
            before = ~(scores <= scores[label])
            before[:label] |= scores[:label] == scores[label]
            self.results.append(int(before.sum()))

    def compute_metrics(self, results: list[int]) -> dict:
        """``top-k`` for each k, and ``intervals`` {metric: [low, high]} with ``bootstrap``."""
        ranks = np.array(results)
        metrics: dict = {f'top-{k}': float((ranks < k).mean()) * 100 for k in self.topk}
        if self.bootstrap:
            # The same resamples for every method and resolution, so that their rows can be compared.
            counts = np.random.default_rng(0).multinomial(len(ranks), np.full(len(ranks), 1 / len(ranks)),
                                                          size=self.bootstrap)
            metrics['intervals'] = {
                f'top-{k}': np.percentile(counts @ (ranks < k) / len(ranks) * 100, (2.5, 97.5)).tolist() for k in self.topk}
        return metrics
