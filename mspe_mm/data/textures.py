"""Textures and shapes, of which the synthetic data sets are drawn."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray
from numpy.random import Generator

# Textures map coordinates, rows (H, 1) and columns (1, W), to the share of the lighter colour (H, W), 0 to 1.


def wave(y: ndarray, x: ndarray, rng: Generator, angle: float, period: float) -> ndarray:
    """A sine of one direction, nearly: phase, period and angle vary a little from object to object."""
    angle, period = angle + rng.normal(0, 0.08), period * rng.uniform(0.9, 1.1)
    return np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, period)) / period)


def stripes(y: ndarray, x: ndarray, rng: Generator, angle: float, period: float) -> ndarray:
    return wave(y, x, rng, angle, period) > 0


def diagonals(y: ndarray, x: ndarray, rng: Generator, period: float) -> ndarray:
    return stripes(y, x, rng, np.pi / 4 * rng.choice([-1, 1]), period)


def checkers(y: ndarray, x: ndarray, rng: Generator, period: float) -> ndarray:
    return wave(y, x, rng, 0, period) * wave(y, x, rng, np.pi / 2, period) > 0


def dots(y: ndarray, x: ndarray, rng: Generator, period: float) -> ndarray:
    return wave(y, x, rng, 0, period) + wave(y, x, rng, np.pi / 2, period) > 0.6


def grain(y: ndarray, x: ndarray, rng: Generator, cell: int) -> ndarray:
    """Cells of random shades; the coordinates start at 0, and their steps are 1 or smaller."""
    height, width = len(y), x.shape[1]
    noise = rng.random((height // cell + 1, width // cell + 1))
    return noise[(y // cell).astype(int), (x // cell).astype(int)]


def dunes(y: ndarray, x: ndarray, rng: Generator) -> ndarray:
    return 0.5 + 0.15 * sum(wave(y, x, rng, rng.uniform(0, np.pi), rng.uniform(12, 40)) for _ in range(6))


def paint(share: ndarray, colour: tuple[int, int, int], rng: Generator) -> ndarray:
    """(..., 3) of two shades near ``colour``, mixed by ``share`` (...)."""
    light = np.array(colour) * rng.uniform(0.85, 1.15, 3)
    dark = light * rng.uniform(0.4, 0.65)
    return dark + (light - dark) * share[..., None]


# Shapes map coordinates in units of the radius to a mask; they stay within the circle of radius 1.


def disc(v: ndarray, u: ndarray) -> ndarray:
    return u**2 + v**2 < 0.9


def box(v: ndarray, u: ndarray) -> ndarray:
    return np.maximum(abs(u), abs(v)) < 0.7


def triangle(v: ndarray, u: ndarray) -> ndarray:
    return (v < 0.5) & (1.73 * abs(u) < v + 1)


def cross(v: ndarray, u: ndarray) -> ndarray:
    return (np.minimum(abs(u), abs(v)) < 0.4) & (np.maximum(abs(u), abs(v)) < 0.9)


def place(shape: Callable[[ndarray, ndarray], ndarray], y: ndarray, x: ndarray, radius: float, tilt: float) -> ndarray:
    """The mask of a shape of ``radius`` pixels, turned by ``tilt`` radians; ``y`` and ``x`` are pixels from its centre."""
    return shape((np.cos(tilt) * y - np.sin(tilt) * x) / radius, (np.sin(tilt) * y + np.cos(tilt) * x) / radius)
