"""Pairs of an image at the base resolution and the same image at other resolutions, for calibration."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import InputError
from .change_resolution import ChangeResolution
from .image_folder import path_in


def evenly(count: int, among: int) -> list[int]:
    """``count`` different indices below ``among``, evenly spaced."""
    return [(2 * i + 1) * among // (2 * count) for i in range(count)]


def image_steps(pipeline: Sequence[dict]) -> list[dict]:
    """The steps of a test pipeline for the image alone: without annotations and packing."""
    names = [step.get('transform', step)['type'].rpartition('.')[2] for step in pipeline]    # CheckedLoading wraps another
    return [step for step, name in zip(pipeline, names) if name != 'LoadAnnotations' and not name.startswith('Pack')]


def normalised(image: np.ndarray, preprocessor: nn.Module) -> Tensor:
    """An (H, W, C) image, normalised by the model's data preprocessor: (1, C, H, W), with padding removed."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    inputs = preprocessor(dict(inputs=[tensor], data_samples=[BaseDataElement()]))['inputs']
    return inputs[..., :image.shape[0], :image.shape[1]]


class ImagePairs:
    """The images of a folder at the base resolution, paired with its resized copies.

    Args:
        folder: Where the images are: a folder, or tars.
        names: Paths inside it, of :func:`~mspe_mm.data.image_folder.find_images`.
        steps: Transforms that load an image and bring it to the base resolution.
        patch_size: Patch size at the base resolution, in pixels.
        changes: Sources of the images for patches of k px, by k: a transform that scales an image by k / ``patch_size``, or
            a folder of the images at that size, under the same names.
    """

    def __init__(self, folder: str | Path, names: Sequence[str], steps: Sequence[dict], patch_size: int,
                 changes: Mapping[int, ChangeResolution | str | Path]) -> None:
        self.folder, self.names, self.patch_size, self.changes = Path(folder), names, patch_size, changes
        self.load, self.to_base = Compose(steps[:1]), Compose(steps[1:])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The base image (H, W, C), cut to whole patches, and the others by k, with patches at the same places.

        Raises:
            InputError: Naming the image that is missing, cannot be decoded, is smaller than a patch, or does not have
                k / ``patch_size`` times the size of the base image.
        """
        name, p = self.names[index], self.patch_size
        path = path_in(self.folder, name)
        results = self.to_base(self.load(dict(img_path=path)))
        image = results['img']
        size = image.shape[:2]
        rows, columns = size[0] // p, size[1] // p
        if not rows or not columns:
            raise InputError(f'{path} is {size[0]} x {size[1]} px at the base resolution, smaller than a '
                             f'patch of {p} px')
        image = image[:rows * p, :columns * p]
        return image, {k: self._read(Path(change) / name, k, size) if isinstance(change, (str, Path)) else
                       change(dict(results, img=image))['img'] for k, change in self.changes.items()}

    def _read(self, path: Path, k: int, base_size: tuple[int, int]) -> np.ndarray:
        if not path.is_file():
            raise InputError(f'{path} does not exist: the folders of images must have the same file names')
        image = np.asarray(self.load(dict(img_path=str(path)))['img'])    # timm's transforms begin with PIL images
        expected = [length * k / self.patch_size for length in base_size]
        if any(abs(length - wanted) > 1 for length, wanted in zip(image.shape, expected)):    # 1 px: other programs round
            raise InputError(f'{path} is {image.shape[0]} x {image.shape[1]} px, and for patches of {k} px it must be '
                             f'{round(expected[0])} x {round(expected[1])}')
        return image
