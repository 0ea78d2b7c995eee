"""Image classification in the sweep."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import InputError

HEADLINE_METRICS = ('top-1', )
TABLE_METRICS = ('top-1', 'top-5')


def evaluator_config(config: dict | list, bootstrap: int) -> dict | list:
    """The config's evaluator, with intervals added to its ``TopKAccuracy``.

    Raises:
        InputError: If the config has no ``TopKAccuracy``, or one without top-1.
    """
    metrics = config if isinstance(config, (list, tuple)) else [config]
    if not any(metric['type'] == 'TopKAccuracy' for metric in metrics):
        raise InputError('the multi-scale evaluation of a classifier reads TopKAccuracy, and test_evaluator is '
                         f'{", ".join(metric["type"] for metric in metrics)}: give the config a TopKAccuracy')
    if not any(1 in metric.get('topk', (1, 5)) for metric in metrics if metric['type'] == 'TopKAccuracy'):
        raise InputError('the multi-scale evaluation of a classifier reports top-1: add 1 to topk of TopKAccuracy')
    return [dict(metric, bootstrap=bootstrap) if metric['type'] == 'TopKAccuracy' else metric for metric in metrics]


def read_metrics(metrics: dict[str, float], config: dict | list) -> dict[str, float]:
    """Converts values to float; names are unchanged."""
    return {name: float(value) for name, value in metrics.items()}


def batch_size(model: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels of a batch of images of ``resolution``: the same."""
    return tuple(resolution)


@contextmanager
def scaled_inference(model: nn.Module, scale: tuple[float, float]) -> Iterator[None]:
    """No inference setting of a classifier depends on the resolution."""
    yield
