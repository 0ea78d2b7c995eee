"""Interleaved timing: candidates take turns, so that other load on the machine slows all of them alike."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

Step = Callable[[int], object]
"""The function that is timed. Its argument is the number of the round, which seeds the random draws of all candidates."""

SHORTEST = 0.01
"""Seconds. A quicker step is called several times in a row, so that the resolution of the clock does not matter."""


def interleave(steps: Sequence[Step], rounds: Iterable[int], calls: Sequence[int],
               clock: Callable[[], float]) -> list[list[float]]:
    """Time every step once per round. Every other round has the reverse order, so that no step always follows the same one.

    Args:
        steps: Steps to time, already warmed up.
        rounds: 0, 1, 2, ...
        calls: Number of calls in a row, by step.
        clock: Returns seconds, after all work that was started is done.

    Returns:
        Seconds of one call, by step and round.
    """
    seconds: list[list[float]] = [[] for _ in steps]
    for number in rounds:
        order = range(len(steps)) if number % 2 == 0 else reversed(range(len(steps)))
        for i in order:
            start = clock()
            for _ in range(calls[i]):
                steps[i](number)
            seconds[i].append((clock() - start) / calls[i])
    return seconds


def calls_in_a_row(seconds: float) -> int:
    """The number of calls of ``seconds`` each that together take at least :data:`SHORTEST`."""
    return max(1, math.ceil(SHORTEST / max(seconds, 1e-7)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    return dict(median=median, q1=q1, q3=q3)


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios of each round.

    The two times of a round are measured one after the other. A machine that is slow for a while changes both, so their
    ratio stays the same. The ratio of the medians would change.
    """
    return spread([a / b for a, b in zip(ours, peer)])


def device_clock(device: str) -> Callable[[], float]:
    """A clock for :func:`interleave` that waits for the device."""
    if torch.device(device).type != 'cuda':
        return time.perf_counter

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return clock
