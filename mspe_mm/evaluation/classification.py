"""What the sweep needs to know of image classification."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import InputError

HEADLINE_METRICS = ('top-1', )
TABLE_METRICS = ('top-1', 'top-5')


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, its ``TopKAccuracy`` with intervals.

    Raises:
        InputError: If it has none.
    """
    metrics = config if isinstance(config, (list, tuple)) else [config]
    if not any(metric['type'] == 'TopKAccuracy' for metric in metrics):
        raise InputError('the multi-scale evaluation of a classifier reads TopKAccuracy, and test_evaluator is '
                         f'{", ".join(metric["type"] for metric in metrics)}: give the config a TopKAccuracy')
    return [dict(metric, bootstrap=bootstrap) if metric['type'] == 'TopKAccuracy' else metric for metric in metrics]


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """The evaluator's figures are in percent and well named."""
    return {name: float(value) for name, value in metrics.items()}


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of the batch that an image of ``resolution`` becomes."""
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """Nothing of a classifier depends on the resolution."""
    yield
