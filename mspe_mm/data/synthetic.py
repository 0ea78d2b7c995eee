"""The synthetic data sets: scenes and crowds with semantic masks and COCO-style instances, and single objects in a folder
for each class."""
from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .scenes import CLASSES, OBJECT_CLASSES, SPLITS, Scene, check_size, draw_crowd, draw_object, draw_scene

PARAMETERS = 'synthetic.json'
VERSION = 2    # of the drawing: raise it when the same seed gives other pixels, so that old folders are made anew


def coco_annotations(scene: Scene) -> list[dict]:
    """The visible part of every object of a scene, as COCO annotations without ids.

    ``category_id`` is the index into :data:`CLASSES`, ``segmentation`` an uncompressed RLE, ``bbox`` is [x, y, width,
    height] and ``area`` counts pixels.
    """
    annotations = []
    for number in np.unique(scene.instances[scene.instances > 0]):
        mask = scene.instances == number
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        bbox = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        annotations.append(dict(
            category_id=int(scene.semantic[mask][0]), bbox=[int(value) for value in bbox], area=int(mask.sum()), iscrowd=0,
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
        size: (height, width) of the images in pixels, at least 32 each.
        seed: At least 0.
        progress: Wraps the list of images to draw: ``tqdm``, say.

    Returns:
        Whether anything had to be written.

    Raises:
        InputError: If an argument is out of range, or ``out`` is a file or holds something else than a synthetic data set.
    """
    parameters = _parameters(num_train, num_val, size, seed)
    return _write_scenes(Path(out), parameters, draw_scene, progress)


def write_synthetic_detection(out: str | Path,
                              num_train: int = 4000,
                              num_val: int = 500,
                              size: tuple[int, int] = (192, 192),
                              seed: int = 0,
                              progress: Callable[[Iterable], Iterable] = iter) -> bool:
    """Write crowds for detection. Files, arguments, returned value and errors are those of :func:`write_synthetic`."""
    parameters = dict(_parameters(num_train, num_val, size, seed), task='detection')
    return _write_scenes(Path(out), parameters, draw_crowd, progress)


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
    for split, index in progress(_jobs(parameters)):
        image, label = draw_object(size, seed, split, index)
        path = out / split / OBJECT_CLASSES[label] / f'{index:05d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    _write_json(out / PARAMETERS, dict(parameters, complete=True))
    return True


def _write_scenes(out: Path, parameters: dict, draw: Callable[..., Scene],
                  progress: Callable[[Iterable], Iterable]) -> bool:
    """Write the images of scenes, their semantic masks and their instances."""
    if not _begin(out, parameters):
        return False
    size, seed = tuple(parameters['size']), parameters['seed']
    coco = {split: dict(images=[], annotations=[], categories=_categories()) for split in SPLITS}
    for split, index in progress(_jobs(parameters)):
        scene, name = draw(size, seed, split, index), f'{index:05d}.png'
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


def _jobs(parameters: dict) -> list[tuple[str, int]]:
    """(split, index) of every image."""
    return [(split, index) for split in SPLITS for index in range(parameters[f'num_{split}'])]


def _parameters(num_train: int, num_val: int, size: tuple[int, int], seed: int) -> dict:
    """What a data set depends on."""
    check_size(size, seed)
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
    return [dict(id=label, name=CLASSES[label]) for label in range(len(CLASSES) - len(OBJECT_CLASSES), len(CLASSES))]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
