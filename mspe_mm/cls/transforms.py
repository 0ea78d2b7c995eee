"""Steps of a classification pipeline: timm's transforms between loading and packing.

``results['img']`` is a PIL image until :class:`TimmTransform`, and an (H, W, 3) array of bytes, RGB, after it.
"""
from __future__ import annotations

import copy
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms
from mmengine import fileio
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from ..errors import InputError


@TRANSFORMS.register_module()
class LoadRGBImage:
    """Read ``img_path`` as an RGB image, and set ``channel_order`` to ``'rgb'``.

    Raises:
        InputError: Naming the file if it is missing or cannot be decoded.
    """

    def __call__(self, results: dict) -> dict:
        path = results['img_path']
        if '://' not in path and not Path(path).is_file():
            raise InputError(f'{path} does not exist')
        try:
            with Image.open(BytesIO(fileio.get(path))) as image:
                results['img'] = image.convert('RGB')
            results['channel_order'] = 'rgb'
        except Exception as error:    # PIL's decoders raise all kinds
            raise InputError(f'{path} cannot be decoded ({type(error).__name__}: {" ".join(str(error).split())})') from None
        return results


@TRANSFORMS.register_module()
class TimmTransform:
    """``timm.data.create_transform`` up to bytes: normalisation is the model's.

    Args:
        timm_name: Model whose image size, interpolation and crop are taken; by default the model that is run.
        img_size: Another image size in pixels, one number or (height, width); by default that of the model that is run.
        is_training: Random crop, flip and colour jitter, or resize and centre crop.
        keep_small: Not to enlarge an image that is smaller than it would be resized to: it keeps its size, and the same
            share of it is cropped. Else it would bypass the MSPE layer. For testing.
        **settings: Of ``create_transform``; they go before the model's.

    Raises:
        InputError: For ``keep_small`` in training.
    """

    def __init__(self, timm_name: str | None = None, img_size: int | tuple[int, int] | None = None,
                 is_training: bool = False, keep_small: bool = False, **settings) -> None:
        if keep_small and is_training:
            raise InputError('TimmTransform.keep_small is for testing: training is at the base resolution')
        self.timm_name, self.img_size, self.keep_small = timm_name, img_size, keep_small
        self.settings = dict(settings, is_training=is_training)
        self.transform = _create(timm_name, img_size, **self.settings)

    def match_model(self, model: nn.Module) -> None:
        """Take the name and the image size that were not given from ``model.timm_name`` and ``model.img_size``."""
        self.transform = _create(self.timm_name or getattr(model, 'timm_name', None),
                                 self.img_size or getattr(model, 'img_size', None), **self.settings)

    def __call__(self, results: dict) -> dict:
        image = results['img']
        transform = self._for_small(image) if self.keep_small else self.transform
        results['img'] = transform(image).permute(1, 2, 0).numpy()
        return results

    def _for_small(self, image: Image.Image) -> Callable:
        """The transform of an image that may be small: timm's, or its crop in proportion without its resize."""
        resize, crop, *others = self.transform.transforms
        width, height = resize(image).size
        if width <= image.width or height <= image.height:
            return self.transform
        crop = copy.copy(crop)
        crop.size = round(crop.size[0] * image.height / height) or 1, round(crop.size[1] * image.width / width) or 1
        return torchvision.transforms.Compose([crop, *others])


def _create(timm_name: str | None, img_size: int | tuple[int, int] | None, is_training: bool, **settings) -> Callable:
    pretrained_cfg = get_pretrained_cfg(timm_name) if timm_name else None
    known = pretrained_cfg.to_dict() if pretrained_cfg else None
    config = resolve_data_config(dict(settings, img_size=None), pretrained_cfg=known)    # timm refuses an empty dict
    if img_size is not None:
        config['input_size'] = (3, img_size, img_size) if isinstance(img_size, int) else (3, *img_size)
    return create_transform(**{**config, **settings}, is_training=is_training, normalize=False)


@TRANSFORMS.register_module()
class TorchvisionTransform:
    """A transform of torchvision, on the PIL image.

    Args:
        name: Its name: ``'RandomRotation'``.
        **settings: Its arguments.
    """

    def __init__(self, name: str, **settings) -> None:
        self.transform = getattr(torchvision.transforms, name)(**settings)

    def __call__(self, results: dict) -> dict:
        results['img'] = self.transform(results['img'])
        return results


@TRANSFORMS.register_module()
class PackImage:
    """Pack the model's input: ``inputs`` (3, H, W) bytes, and ``data_samples`` with ``img_path`` and, if there is one,
    ``gt_label``."""

    def __call__(self, results: dict) -> dict:
        image = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        label = {key: results[key] for key in ('gt_label', ) if key in results}
        return dict(inputs=image, data_samples=BaseDataElement(metainfo=dict(img_path=results['img_path']), **label))
