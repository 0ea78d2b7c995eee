"""Synthetic images: textured objects on textured ground.

Two classes share each shape and its colours and differ in their texture alone. A period of a few pixels hardly survives
shrinking by 4: what a low resolution costs shows. No texture changes its class when it is mirrored, so training may flip.
Lengths are pixels whatever the image size: a larger image holds more objects, not larger ones.
"""
from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .textures import box, checkers, cross, diagonals, disc, dots, dunes, grain, paint, place, stripes, triangle

SPLITS = ('train', 'val')
MIN_SIZE = 32    # pixels; the largest objects of draw_scene still fit
CROWD_RADII = (16, 56)    # pixels, of the smallest and of the largest object of a crowd


class Scene(NamedTuple):
    """One image and its truth."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    semantic: np.ndarray
    """(H, W) uint8, index into :data:`CLASSES`."""
    instances: np.ndarray
    """(H, W) int32, 0 on the ground, else the number of the object that is seen there."""


_GROUNDS = (('sand', dunes), ('gravel', partial(grain, cell=3)))
_OBJECTS = (
    ('horizontal disc', disc, partial(stripes, angle=np.pi / 2, period=5)),
    ('vertical disc', disc, partial(stripes, angle=0, period=5)),
    ('fine box', box, partial(checkers, period=5)),
    ('coarse box', box, partial(checkers, period=8)),
    ('dotted triangle', triangle, partial(dots, period=6)),
    ('grainy triangle', triangle, partial(grain, cell=2)),
    ('fine cross', cross, partial(diagonals, period=4)),
    ('coarse cross', cross, partial(diagonals, period=7)),
)
_COLOURS = {disc: (220, 120, 90), box: (110, 150, 220), triangle: (200, 190, 90), cross: (170, 110, 190)}
_GROUND_COLOUR = (170, 160, 130)

CLASSES = tuple(name for name, *_ in _GROUNDS + _OBJECTS)
OBJECT_CLASSES = CLASSES[len(_GROUNDS):]
PALETTE = ((200, 180, 120), (120, 120, 120), (220, 60, 40), (250, 150, 120), (30, 80, 200), (120, 170, 250),
           (230, 210, 30), (150, 130, 20), (150, 40, 180), (220, 140, 240))


def draw_scene(size: tuple[int, int], seed: int, split: str, index: int) -> Scene:
    """Draw one image, which depends on the arguments alone.

    Args:
        size: (height, width) in pixels, each at least :data:`MIN_SIZE`.
        seed: Of the data set, at least 0.
        split: One of :data:`SPLITS`.
        index: Of the image in its split, from 0.

    Raises:
        InputError: If an argument is out of range.
    """
    rng = _generator(size, seed, split, index)
    height, width = size
    y, x = np.ogrid[:float(height), :float(width)]
    image, semantic, instances = _draw_grounds(y, x, rng)
    attempts = max(1, round(8 * height * width / 128**2))
    number = 0
    for _ in range(attempts):
        label = int(rng.integers(len(_OBJECTS)))
        _, shape, texture = _OBJECTS[label]
        radius, tilt = rng.uniform(16, 30), rng.normal(0, 0.2)
        dy, dx = y - rng.uniform(0, height), x - rng.uniform(0, width)
        mask = place(shape, dy, dx, radius, tilt)
        if not mask.any() or (instances[mask] > 0).mean() > 0.2:
            continue    # outside, or it would hide too much of the others
        number += 1
        image[mask] = paint(texture(y, x, rng)[mask], _COLOURS[shape], rng)
        semantic[mask] = len(_GROUNDS) + label
        instances[mask] = number
    return Scene(_photograph(image, rng), semantic, instances)


def draw_crowd(size: tuple[int, int], seed: int, split: str, index: int) -> Scene:
    """Draw one image of overlapping objects of many sizes.

    Arguments and errors are those of :func:`draw_scene`; the image depends on the arguments alone. Radii spread evenly on a
    logarithmic scale over :data:`CROWD_RADII`. A texture is as coarse as its object is large, as on nearer and farther
    objects: two to four periods fit in it, and so a low resolution hides the textures of small objects first. At a quarter
    of the resolution the finest texture of the smallest object still has about two pixels a period. Objects are drawn from
    large to small, and at least half of each stays visible.
    """
    rng = _generator(size, seed, split, index, 2)
    height, width = size
    image, semantic, instances = _draw_grounds(*np.ogrid[:float(height), :float(width)], rng)
    attempts = max(1, round(9 * height * width / 192**2))
    smallest, largest = CROWD_RADII
    drawn = visible = np.zeros(1, int)    # pixels of each object as it was drawn, and now; the ground is object 0
    for radius in sorted(smallest * (largest / smallest)**rng.random(attempts), reverse=True):
        label = int(rng.integers(len(_OBJECTS)))
        _, shape, texture = _OBJECTS[label]
        centre, tilt = rng.uniform(0, size), rng.normal(0, 0.2)
        top, left = np.maximum(centre - radius, 0).astype(int)
        bottom, right = np.minimum(centre + radius + 1, size).astype(int)
        window = np.s_[top:bottom, left:right]
        y, x = np.ogrid[:float(bottom - top), :float(right - left)]
        mask = place(shape, y + top - centre[0], x + left - centre[1], radius, tilt)
        left_over = visible - np.bincount(instances[window][mask], minlength=len(drawn))
        if not mask.any() or (2 * left_over < drawn)[1:].any():
            continue    # outside, or it would hide too much of another
        coarseness = radius / 8
        image[window][mask] = paint(texture(y / coarseness, x / coarseness, rng)[mask], _COLOURS[shape], rng)
        semantic[window][mask] = len(_GROUNDS) + label
        instances[window][mask] = len(drawn)
        drawn, visible = np.append(drawn, mask.sum()), np.append(left_over, mask.sum())
    return Scene(_photograph(image, rng), semantic, instances)


def _draw_grounds(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, semantic mask and instances of two grounds, parted by a straight line through the middle half of the image."""
    height, width = len(y), x.shape[1]
    angle = rng.uniform(0, 2 * np.pi)
    line_y, line_x = height * rng.uniform(0.25, 0.75), width * rng.uniform(0.25, 0.75)
    semantic = (np.cos(angle) * (x - line_x) + np.sin(angle) * (y - line_y) > 0).astype(np.uint8)
    image = np.empty((height, width, 3))
    for label, (_, texture) in enumerate(_GROUNDS):
        mask = semantic == label
        image[mask] = paint(texture(y, x, rng)[mask], _GROUND_COLOUR, rng)
    return image, semantic, np.zeros((height, width), np.int32)


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as a camera has it: noisy, in bytes."""
    return (image + rng.normal(0, 10, image.shape)).clip(0, 255).astype(np.uint8)


def draw_object(size: tuple[int, int], seed: int, split: str, index: int) -> tuple[np.ndarray, int]:
    """Draw one object on one ground, which depend on the arguments alone (those of :func:`draw_scene`).

    Returns:
        (H, W, 3) uint8, RGB, and the index of its class into :data:`OBJECT_CLASSES`: ``index`` modulo their number.

    Raises:
        InputError: If an argument is out of range.
    """
    rng = _generator(size, seed, split, index, 1)
    height, width = size
    y, x = np.ogrid[:float(height), :float(width)]
    _, ground = _GROUNDS[rng.integers(len(_GROUNDS))]
    label = index % len(_OBJECTS)
    _, shape, texture = _OBJECTS[label]
    radius, tilt = min(size) * rng.uniform(0.3, 0.45), rng.normal(0, 0.2)
    dy, dx = y - height * rng.uniform(0.4, 0.6), x - width * rng.uniform(0.4, 0.6)
    mask = place(shape, dy, dx, radius, tilt)
    image = paint(ground(y, x, rng), _GROUND_COLOUR, rng)
    image[mask] = paint(texture(y, x, rng)[mask], _COLOURS[shape], rng)
    return _photograph(image, rng), label


def _generator(size: tuple[int, int], seed: int, split: str, index: int, *kind: int) -> np.random.Generator:
    """Random numbers of one image; ``kind`` is a number for each way of drawing."""
    check_size(size, seed)
    if split not in SPLITS or index < 0:
        raise InputError(f'the synthetic data set has no image {index} in a split {split!r}: splits are {SPLITS}')
    return np.random.default_rng([seed, SPLITS.index(split), index, *kind])


def check_size(size: tuple[int, int], seed: int) -> None:
    """Refuse sizes that are too small and negative seeds."""
    if len(size) != 2 or min(size) < MIN_SIZE:
        raise InputError(f'the image size must be a height and a width of at least {MIN_SIZE} px, got '
                         f'{" x ".join(map(str, size))}')
    if seed < 0:
        raise InputError(f'the seed must not be negative, got {seed}')
