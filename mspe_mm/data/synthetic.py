"""The synthetic data sets: textured objects on textured ground, with exact semantic masks and COCO-style instances; or one
object an image, in a folder for each class.

Two classes share each shape and its colours and differ in their fine texture alone, whose period of a few pixels hardly
survives shrinking by 4: what a low resolution costs shows. No texture changes its class when it is mirrored, so training
may flip. Lengths are pixels whatever the image size: a larger image holds more objects, not larger ones.
"""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..errors import InputError

SPLITS = ('train', 'val')
MIN_SIZE = 32    # pixels; the largest objects still fit
PARAMETERS = 'synthetic.json'
VERSION = 1    # of the drawing: raise it when the same seed gives other pixels, so that old folders are made anew


class Scene(NamedTuple):
    """One image and its truth."""

    image: np.ndarray
    """(H, W, 3) uint8, RGB."""
    semantic: np.ndarray
    """(H, W) uint8, index into :data:`CLASSES`."""
    instances: np.ndarray
    """(H, W) int32, 0 on the ground, else the number of the object that is seen there."""


# Textures map coordinates (rows, columns) to the share of the lighter colour, 0 to 1, in the broadcast shape.


def _wave(y: np.ndarray, x: np.ndarray, rng: np.random.Generator, angle: float, period: float) -> np.ndarray:
    """A sine of one direction, nearly: phase, period and angle vary a little from object to object."""
    angle, period = angle + rng.normal(0, 0.08), period * rng.uniform(0.9, 1.1)
    return np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, period)) / period)


def _stripes(y, x, rng, angle, period):
    return _wave(y, x, rng, angle, period) > 0


def _diagonals(y, x, rng, period):
    return _stripes(y, x, rng, np.pi / 4 * rng.choice([-1, 1]), period)


def _checkers(y, x, rng, period):
    return _wave(y, x, rng, 0, period) * _wave(y, x, rng, np.pi / 2, period) > 0


def _dots(y, x, rng, period):
    return _wave(y, x, rng, 0, period) + _wave(y, x, rng, np.pi / 2, period) > 0.6


def _grain(y, x, rng, cell):
    height, width = len(y), x.shape[1]
    noise = rng.random((height // cell + 1, width // cell + 1))
    return noise.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def _dunes(y, x, rng):
    waves = [_wave(y, x, rng, rng.uniform(0, np.pi), rng.uniform(12, 40)) for _ in range(6)]
    return 0.5 + 0.15 * np.sum(waves, axis=0)


# Shapes map coordinates in units of the radius to a mask; they stay within the circle of radius 1.


def _disc(v, u):
    return u**2 + v**2 < 0.9


def _box(v, u):
    return np.maximum(abs(u), abs(v)) < 0.7


def _triangle(v, u):
    return (v < 0.5) & (1.73 * abs(u) < v + 1)


def _cross(v, u):
    return (np.minimum(abs(u), abs(v)) < 0.4) & (np.maximum(abs(u), abs(v)) < 0.9)


_GROUNDS = (('sand', _dunes), ('gravel', partial(_grain, cell=3)))
_OBJECTS = (
    ('horizontal disc', _disc, partial(_stripes, angle=np.pi / 2, period=5)),
    ('vertical disc', _disc, partial(_stripes, angle=0, period=5)),
    ('fine box', _box, partial(_checkers, period=5)),
    ('coarse box', _box, partial(_checkers, period=8)),
    ('dotted triangle', _triangle, partial(_dots, period=6)),
    ('grainy triangle', _triangle, partial(_grain, cell=2)),
    ('fine cross', _cross, partial(_diagonals, period=4)),
    ('coarse cross', _cross, partial(_diagonals, period=7)),
)
_COLOURS = {_disc: (220, 120, 90), _box: (110, 150, 220), _triangle: (200, 190, 90), _cross: (170, 110, 190)}
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
    _check(size, seed)
    if split not in SPLITS or index < 0:
        raise InputError(f'the synthetic data set has no image {index} in a split {split!r}: splits are {SPLITS}')
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)

    # Two grounds, parted by a straight line through the middle half of the image.
    angle = rng.uniform(0, 2 * np.pi)
    line_y, line_x = height * rng.uniform(0.25, 0.75), width * rng.uniform(0.25, 0.75)
    semantic = (np.cos(angle) * (x - line_x) + np.sin(angle) * (y - line_y) > 0).astype(np.uint8)
    instances = np.zeros(size, np.int32)
    image = np.empty((height, width, 3))
    for label, (_, texture) in enumerate(_GROUNDS):
        mask = semantic == label
        image[mask] = _paint(texture(y, x, rng), _GROUND_COLOUR, rng)[mask]

    attempts = max(1, round(8 * height * width / 128**2))
    number = 0
    for _ in range(attempts):
        label = int(rng.integers(len(_OBJECTS)))
        _, shape, texture = _OBJECTS[label]
        radius, tilt = rng.uniform(16, 30), rng.normal(0, 0.2)
        dy, dx = y - rng.uniform(0, height), x - rng.uniform(0, width)
        mask = shape((np.cos(tilt) * dy - np.sin(tilt) * dx) / radius, (np.sin(tilt) * dy + np.cos(tilt) * dx) / radius)
        if not mask.any() or (instances[mask] > 0).mean() > 0.2:
            continue    # outside, or it would hide too much of the others
        number += 1
        image[mask] = _paint(texture(y, x, rng), _COLOURS[shape], rng)[mask]
        semantic[mask] = len(_GROUNDS) + label
        instances[mask] = number
    image += rng.normal(0, 10, image.shape)
    return Scene(image.clip(0, 255).astype(np.uint8), semantic, instances)


def _paint(share: np.ndarray, colour: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) of two shades near ``colour``, mixed by ``share`` (H, W)."""
    light = np.array(colour) * rng.uniform(0.85, 1.15, 3)
    dark = light * rng.uniform(0.4, 0.65)
    return dark + (light - dark) * share[..., None]


def draw_object(size: tuple[int, int], seed: int, split: str, index: int) -> tuple[np.ndarray, int]:
    """Draw one object on one ground, which depend on the arguments alone (those of :func:`draw_scene`).

    Returns:
        (H, W, 3) uint8, RGB, and the index of its class into :data:`OBJECT_CLASSES`: ``index`` modulo their number.

    Raises:
        InputError: If an argument is out of range.
    """
    _check(size, seed)
    if split not in SPLITS or index < 0:
        raise InputError(f'the synthetic data set has no image {index} in a split {split!r}: splits are {SPLITS}')
    rng = np.random.default_rng([seed, SPLITS.index(split), index, 1])    # 1: not the numbers of draw_scene
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    _, ground = _GROUNDS[rng.integers(len(_GROUNDS))]
    label = index % len(_OBJECTS)
    _, shape, texture = _OBJECTS[label]
    radius, tilt = min(size) * rng.uniform(0.3, 0.45), rng.normal(0, 0.2)
    dy, dx = y - height * rng.uniform(0.4, 0.6), x - width * rng.uniform(0.4, 0.6)
    mask = shape((np.cos(tilt) * dy - np.sin(tilt) * dx) / radius, (np.sin(tilt) * dy + np.cos(tilt) * dx) / radius)
    image = _paint(ground(y, x, rng), _GROUND_COLOUR, rng)
    image[mask] = _paint(texture(y, x, rng), _COLOURS[shape], rng)[mask]
    image += rng.normal(0, 10, image.shape)
    return image.clip(0, 255).astype(np.uint8), label


def coco_annotations(scene: Scene) -> list[dict]:
    """The visible part of every object of a scene, as COCO annotations without ids.

    ``category_id`` is the index into :data:`CLASSES`, ``segmentation`` an uncompressed RLE, ``bbox`` is [x, y, width,
    height] and ``area`` counts pixels.
    """
    annotations = []
    for number in np.unique(scene.instances[scene.instances > 0]):
        mask = scene.instances == number
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        annotations.append(dict(
            category_id=int(scene.semantic[mask][0]), bbox=[int(value) for value in box], area=int(mask.sum()), iscrowd=0,
            segmentation=dict(size=list(mask.shape), counts=_run_lengths(mask))))
    return annotations


def _run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of 0, 1, 0, ... down the columns of ``mask``."""
    flat = np.concatenate([[False], mask.ravel(order='F')])    # the first run is of zeros, if need be an empty one
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *starts, mask.size]).tolist()


def write_synthetic(out: str | Path,
                    num_train: int = 600,
                    num_val: int = 100,
                    size: tuple[int, int] = (128, 128),
                    seed: int = 0,
                    progress: Callable[[Iterable], Iterable] = iter) -> bool:
    """Write the data set as ``images/{train,val}/*.png``, ``annotations/{train,val}/*.png`` and
    ``annotations/instances_{train,val}.json``.

    A folder that holds this data set already is left alone. One that holds another synthetic data set, or part of one, is
    replaced.

    Args:
        out: Folder; made if missing.
        num_train: Training images, at least 1.
        num_val: Validation images, at least 1.
        size: (height, width) of the images in pixels, each at least :data:`MIN_SIZE`.
        seed: At least 0.
        progress: Wraps the list of images to draw: ``tqdm``, say.

    Returns:
        Whether anything had to be written.

    Raises:
        InputError: If an argument is out of range, or ``out`` is a file or holds something else than a synthetic data set.
    """
    out = Path(out)
    parameters = _parameters(num_train, num_val, size, seed)
    if not _begin(out, parameters):
        return False
    jobs = [(split, index) for split, count in zip(SPLITS, (num_train, num_val)) for index in range(count)]
    coco = {split: dict(images=[], annotations=[], categories=_categories()) for split in SPLITS}
    for split, index in progress(jobs):
        scene, name = draw_scene(size, seed, split, index), f'{index:05d}.png'
        for folder, pixels in (('images', scene.image), ('annotations', scene.semantic)):
            path = out / folder / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        coco[split]['images'].append(dict(id=index + 1, file_name=name, height=size[0], width=size[1]))
        for annotation in coco_annotations(scene):
            annotation_id = len(coco[split]['annotations']) + 1    # from 1: COCO's evaluation takes id 0 for "no match"
            coco[split]['annotations'].append(dict(id=annotation_id, image_id=index + 1, **annotation))
    for split in SPLITS:
        _write_json(out / 'annotations' / f'instances_{split}.json', coco[split])
    _write_json(out / PARAMETERS, dict(parameters, complete=True))
    return True


def write_synthetic_folders(out: str | Path,
                            num_train: int = 600,
                            num_val: int = 100,
                            size: tuple[int, int] = (64, 64),
                            seed: int = 0,
                            progress: Callable[[Iterable], Iterable] = iter) -> bool:
    """Write single objects for classification, as ``{train,val}/<class>/*.png``: ImageNet's layout.

    Arguments, returned value and errors are those of :func:`write_synthetic`.
    """
    out = Path(out)
    parameters = dict(_parameters(num_train, num_val, size, seed), task='classification')
    if not _begin(out, parameters):
        return False
    for split, index in progress([(split, index) for split, count in zip(SPLITS, (num_train, num_val))
                                  for index in range(count)]):
        image, label = draw_object(size, seed, split, index)
        path = out / split / OBJECT_CLASSES[label] / f'{index:05d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    _write_json(out / PARAMETERS, dict(parameters, complete=True))
    return True


def _parameters(num_train: int, num_val: int, size: tuple[int, int], seed: int) -> dict:
    """What a data set depends on."""
    _check(size, seed)
    for split, count in zip(SPLITS, (num_train, num_val)):
        if count < 1:
            raise InputError(f'the {split} split needs at least 1 image, got {count}')
    return dict(version=VERSION, num_train=num_train, num_val=num_val, size=list(size), seed=seed)


def _begin(out: Path, parameters: dict) -> bool:
    """Make room for a data set; whether it is not there already."""
    if _read_parameters(out) == dict(parameters, complete=True):
        return False
    _make_room(out)
    # From the first file to the last the folder says that it is not complete.
    _write_json(out / PARAMETERS, dict(parameters, complete=False))
    return True


def _categories() -> list[dict]:
    return [dict(id=label, name=CLASSES[label]) for label in range(len(_GROUNDS), len(CLASSES))]


def _check(size: tuple[int, int], seed: int) -> None:
    if len(size) != 2 or min(size) < MIN_SIZE:
        raise InputError(f'the image size must be a height and a width of at least {MIN_SIZE} px, got '
                         f'{" x ".join(map(str, size))}')
    if seed < 0:
        raise InputError(f'the seed must not be negative, got {seed}')


def _read_parameters(out: Path) -> dict | None:
    try:
        return json.loads((out / PARAMETERS).read_text())
    except (OSError, ValueError):
        return None


def _make_room(out: Path) -> None:
    """Make ``out`` an empty folder, without touching anything that is not a synthetic data set."""
    if out.exists() and not out.is_dir():
        raise InputError(f'{out} is a file: give a folder')
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / PARAMETERS).is_file():
        raise InputError(f'{out} holds something else than a synthetic data set: give another folder')
    for folder in ('images', 'annotations', *SPLITS):
        if (out / folder).exists():
            shutil.rmtree(out / folder)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))
