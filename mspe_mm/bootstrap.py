"""Bootstrap intervals over images."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = (2.5, 97.5)
"""Percentiles of a 95% interval."""


def resampled_counts(images: int, resamples: int) -> np.ndarray:
    """The number of times that each resample draws each image: (resamples, images), integers; rows sum to ``images``.

    The draw has a fixed seed. All methods and resolutions are measured on the same resamples, so their rows can be compared.
    """
    return np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=resamples)


def interval(samples: Sequence[float]) -> list[float]:
    """[low, high] of the 95% interval of a metric, from its values on the resamples."""
    return np.percentile(samples, LEVEL).tolist()
