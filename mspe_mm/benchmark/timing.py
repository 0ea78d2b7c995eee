"""Interleaved timing: candidates take turns, so that what else the machine does falls on all of them alike."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

Step = Callable[[int], object]
"""What is timed. It is given the number of the round, so that all candidates of a round can draw the same."""

SHORTEST = 0.01
"""Seconds; what is quicker is called several times in a row, so that the clock itself does not count."""


def interleave(steps: Sequence[Step], rounds: Iterable[int], calls: Sequence[int],
               clock: Callable[[], float]) -> list[list[float]]:
    """Time every step once a round; every other round in reverse order, so that nobody is always the second.

    Args:
        steps: What to time, warmed up.
        rounds: 0, 1, 2, ...
        calls: How often each step is called in a row.
        clock: Seconds, after all work that was started.

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
    """How often to call a step of so many seconds for at least :data:`SHORTEST`."""
    return max(1, math.ceil(SHORTEST / max(seconds, 1e-7)))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    q1, median, q3 = np.percentile(values, (25, 50, 75)).tolist()
    return dict(median=median, q1=q1, q3=q3)


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios within a round.

    The two stand next to each other in time, so a machine that slows down for a while leaves their ratio alone, which it
    does not the ratio of the medians.
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
