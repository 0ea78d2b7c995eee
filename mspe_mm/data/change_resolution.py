"""The transform that changes the resolution of test images."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS
from PIL import Image

from ..errors import InputError
from ..layers.resize import ANTIALIASED, resize_image
from . import degradations  # noqa: F401  registers them
from .resize_if_larger import enlarging_small

OPENCV = dict(bilinear='INTER_LINEAR', bicubic='INTER_CUBIC', area='INTER_AREA', nearest='INTER_NEAREST')
PILLOW = dict(bilinear=Image.BILINEAR, bicubic=Image.BICUBIC)


def imresize(image: np.ndarray, size: tuple[int, int], interpolation: str = 'bilinear',
             antialias: bool = True) -> np.ndarray:
    """Resize an (H, W, C) image to ``size`` (height, width) by a downsampling model of :mod:`mspe_mm.layers.resize`.

    PIL or OpenCV resizes 8-bit images, depending on the downsampling model, as in ``mmcv.imresize``; PyTorch resizes others.
    """
    if image.dtype != np.uint8:
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
        return resize_image(tensor, size, interpolation, antialias)[0].permute(1, 2, 0).numpy()
    if antialias and interpolation in ANTIALIASED:
        return np.array(Image.fromarray(image).resize(size[::-1], PILLOW[interpolation]))
    import cv2  # here, because every host registers ChangeResolution and few configs name it

    return cv2.resize(image, size[::-1], interpolation=getattr(cv2, OPENCV[interpolation]))


@TRANSFORMS.register_module()
class ChangeResolution:
    """Change the resolution of an image that the pipeline has brought to the base resolution.

    Annotations are not changed: they stay in the frame in which the host compares them.

    Args:
        scale: (vertical, horizontal) factor; (0.25, 0.25) is a quarter of the base resolution.
        interpolation: Downsampling model, see :mod:`mspe_mm.layers.resize`.
        antialias: Likewise.
        restore: Afterwards resize the image bilinearly: True for its size before, or (vertical, horizontal) shares of it.
        degrade: Transforms that replace the single resize, such as ``[dict(type='ChangeResolution', interpolation='area'),
            dict(type='CompressJPEG', quality=50)]``. The size changes at the ``ChangeResolution``, which has no scale here.
            If there is none, the size changes first, by ``interpolation`` and ``antialias``.
    """

    def __init__(self, scale: tuple[float, float], interpolation: str = 'bilinear', antialias: bool = True,
                 restore: bool | tuple[float, float] = False, degrade: Sequence[dict] | None = None) -> None:
        self.scale, self.interpolation, self.antialias = scale, interpolation, antialias
        self.restore = (1., 1.) if restore is True else restore
        self.degrade = None
        if degrade:
            change = dict(type='ChangeResolution', scale=scale, interpolation=interpolation, antialias=antialias)
            steps = [{**change, **step} if step.get('type') == 'ChangeResolution' else step for step in degrade]
            self.degrade = Compose(steps if any(step['type'] == 'ChangeResolution' for step in steps) else [change, *steps])

    def __call__(self, results: dict) -> dict:
        image = results['img']
        before = image.shape[:2]
        size = _scaled(before, self.scale)
        if self.degrade is None:
            image = imresize(image, size, self.interpolation, self.antialias)
        else:
            image = self.degrade(dict(results, img=image, img_shape=before))['img']
            if image.shape[:2] != size:
                raise InputError(f'the degrade pipeline makes images of {image.shape[0]} x {image.shape[1]} px where '
                                 f'{size[0]} x {size[1]} px are asked for: let ChangeResolution alone change the size')
        if self.restore:
            image = imresize(image, _scaled(before, self.restore))
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        if 'scale_factor' in results:    # (width, height), as mmcv has it
            change = (image.shape[1] / before[1], image.shape[0] / before[0])
            results['scale_factor'] = tuple(old * new for old, new in zip(results['scale_factor'], change))
        return results


def _scaled(size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int]:
    height, width = (max(1, round(length * factor)) for length, factor in zip(size, scale))
    return height, width


def at_resolution(pipeline: list[dict], **settings) -> list[dict]:
    """A test pipeline with :class:`ChangeResolution` of these settings before its packing step.

    Small images are enlarged to the base resolution first, so that all images lose the same share of it.
    """
    *steps, packing = enlarging_small(pipeline)
    return [*steps, dict(type='ChangeResolution', **settings), packing]
