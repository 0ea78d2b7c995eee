"""Textures and shapes, of which the synthetic data sets are drawn."""
from __future__ import annotations

import numpy as np

# Textures map coordinates, rows (H, 1) and columns (1, W), to the share of the lighter colour (H, W), 0 to 1.


def wave(y: np.ndarray, x: np.ndarray, rng: np.random.Generator, angle: float, period: float) -> np.ndarray:
    """A sine of one direction, nearly: phase, period and angle vary a little from object to object."""
    angle, period = angle + rng.normal(0, 0.08), period * rng.uniform(0.9, 1.1)
    return np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, period)) / period)


def stripes(y, x, rng, angle, period):
    return wave(y, x, rng, angle, period) > 0


def diagonals(y, x, rng, period):
    return stripes(y, x, rng, np.pi / 4 * rng.choice([-1, 1]), period)


def checkers(y, x, rng, period):
    return wave(y, x, rng, 0, period) * wave(y, x, rng, np.pi / 2, period) > 0


def dots(y, x, rng, period):
    return wave(y, x, rng, 0, period) + wave(y, x, rng, np.pi / 2, period) > 0.6


def grain(y, x, rng, cell):
    """Cells of random shades; the coordinates start at 0, and their steps are 1 or smaller."""
    height, width = len(y), x.shape[1]
    noise = rng.random((height // cell + 1, width // cell + 1))
    return noise[(y // cell).astype(int), (x // cell).astype(int)]


def dunes(y, x, rng):
    return 0.5 + 0.15 * sum(wave(y, x, rng, rng.uniform(0, np.pi), rng.uniform(12, 40)) for _ in range(6))


def paint(share: np.ndarray, colour: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """(..., 3) of two shades near ``colour``, mixed by ``share`` (...)."""
    light = np.array(colour) * rng.uniform(0.85, 1.15, 3)
    dark = light * rng.uniform(0.4, 0.65)
    return dark + (light - dark) * share[..., None]


# Shapes map coordinates in units of the radius to a mask; they stay within the circle of radius 1.


def disc(v, u):
    return u**2 + v**2 < 0.9


def box(v, u):
    return np.maximum(abs(u), abs(v)) < 0.7


def triangle(v, u):
    return (v < 0.5) & (1.73 * abs(u) < v + 1)


def cross(v, u):
    return (np.minimum(abs(u), abs(v)) < 0.4) & (np.maximum(abs(u), abs(v)) < 0.9)


def place(shape, y, x, radius, tilt):
    """The mask of a shape of ``radius`` pixels, turned by ``tilt`` radians; ``y`` and ``x`` are pixels from its centre."""
    return shape((np.cos(tilt) * y - np.sin(tilt) * x) / radius, (np.sin(tilt) * y + np.cos(tilt) * x) / radius)
