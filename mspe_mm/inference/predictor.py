"""Predicting on images of any sizes, in Python."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import nn

from ..data.change_resolution import at_resolution
from ..errors import InputError
from ..models.checkpoint import load_weights
from ..runtime.cli import build_model, loads_own_weights, read_config
from ..runtime.data_checks import check_pipeline
from ..runtime.runner import load_adapter_for
from ..runtime.stock_config import test_dataset, with_mspe

ImageLike = Union[str, PathLike, np.ndarray, Image.Image]


def load(config: str | Path | Config, checkpoint: str | Path | None = None, adapter: str | Path | None = None,
         device: str | torch.device | None = None, resolution: tuple[int, int] | None = None,
         token_grid: tuple[int, int] | None = None) -> Predictor:
    """A predictor from files.

    The config and the checkpoint of a stock model will do: it is given the MSPE layer, whose untrained kernels are the
    ``prior``. Small images are not enlarged to the base resolution.

    Args:
        config: Config file of mmseg, mmdet or this package, or a loaded one.
        checkpoint: Its weights; not needed by a timm model that loads its own.
        adapter: Tuned patch kernels; by default those that the config names, if any.
        device: By default the GPU, if there is one.
        resolution: See :class:`Predictor`.
        token_grid: Likewise.

    Raises:
        InputError: If a file is missing, damaged or does not fit; the message says in what.
    """
    cfg = with_mspe(config if isinstance(config, Config) else read_config(config))
    if adapter is not None:
        cfg.model.adapter = None    # this one instead
    model, meta = revert_sync_batchnorm(build_model(cfg)), {}
    if checkpoint is not None:
        meta = load_weights(model, str(checkpoint)).get('meta', {})
    elif not loads_own_weights(cfg):
        raise InputError(f'the model of {cfg.filename} has no trained weights of its own: give a checkpoint')
    adapter = adapter or cfg.get('adapter')
    if adapter is not None:
        load_adapter_for(cfg, model.mspe_layer, str(adapter))
    model.dataset_meta = meta.get('dataset_meta') or _dataset_meta(cfg)
    model.cfg = cfg
    return Predictor(model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval(), resolution, token_grid)


class Predictor:
    """Predicts on images, each at its own resolution.

    Images of different sizes share one pass through the encoder if they have the same token grid: the MSPE layer embeds each
    at its own size. A predictor may be called by several threads.

    Args:
        model: A model of this package in eval mode, with its config as ``cfg``.
        resolution: (height, width) in pixels that the base resolution becomes: images are first brought to the base
            resolution and then shrunk. With None an image is brought to the base resolution if it is larger.
        restore: With a ``resolution``: afterwards enlarge images to the base resolution again, as a model without the layer
            wants them.
        token_grid: (rows, columns) of tokens of every image. With None it is the base grid, or what the adapter has for the
            resolution of an image.

    Attributes:
        model: The model.
        token_grid: As above.
        classes: Names of the classes, or None.
        palette: Their RGB colours, or None.
    """

    def __init__(self, model: nn.Module, resolution: tuple[int, int] | None = None, restore: bool = False,
                 token_grid: tuple[int, int] | None = None) -> None:
        self.model, self.token_grid = model, token_grid
        init_default_scope(model.cfg.default_scope)
        steps = [step for step in test_dataset(model.cfg)['pipeline'] if 'Annotations' not in step['type']]
        if resolution is not None:
            layer = model.mspe_layer
            scale = tuple(length / base for length, base in zip(resolution, layer.base_resolution))
            steps = at_resolution(steps, scale=scale, interpolation=layer.downsampling.interpolation,
                                  antialias=layer.downsampling.antialias, restore=restore)
        self._load, self._prepare = Compose(steps[:1]), Compose(steps[1:])
        for part in (self._load, self._prepare):
            check_pipeline(part, model)
        meta = getattr(model, 'dataset_meta', None) or {}
        self.classes, self.palette = meta.get('classes'), meta.get('palette')

    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> list[BaseDataElement]:
        """Predict on images in one pass.

        Args:
            images: Paths, PIL images, or (H, W, 3) arrays of bytes in BGR order, as OpenCV reads them; or one of these.

        Returns:
            The host's data samples in the order of the images, at their original sizes: ``pred_sem_seg`` of a segmentor,
            ``pred_instances`` of a detector, ``pred_score`` of a classifier.

        Raises:
            InputError: Naming an image that is missing or cannot be decoded.
        """
        if isinstance(images, (str, PathLike, np.ndarray, Image.Image)):
            images = [images]
        return self.predict(self.prepare(self.read(image)) for image in images)

    def read(self, image: ImageLike) -> dict:
        """An image as the pipeline's loading step leaves it.

        Raises:
            InputError: Naming an image that is missing or cannot be decoded.
        """
        if isinstance(image, (str, PathLike)):
            return self._load(dict(img_path=str(image), img_id=0))
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert('RGB'))[..., ::-1]
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f'an image must be (H, W, 3) bytes in BGR order, got {image.shape} of {image.dtype}')
        size, image = image.shape[:2], np.ascontiguousarray(image)
        if self.model.cfg.default_scope == 'mmengine':    # timm's transforms take PIL images
            image = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
        return dict(img=image, img_path=None, img_id=0, img_shape=size, ori_shape=size)

    def prepare(self, read: dict) -> dict:
        """An image of :meth:`read` after the test pipeline: ``inputs`` (C, H, W) and ``data_samples``."""
        return self._prepare(dict(read))

    @torch.no_grad()
    def predict(self, prepared: Iterable[dict]) -> list[BaseDataElement]:
        """Predict on images from :meth:`prepare`, in one pass."""
        items = list(prepared)
        if not items:
            return []
        with self.model.mspe_layer.force_grid(self.token_grid):
            return list(self.model.test_step({key: [item[key] for item in items] for key in ('inputs', 'data_samples')}))


def _dataset_meta(cfg: Config) -> dict:
    """Classes and palette of a config's test data set."""
    dataset = test_dataset(cfg)
    with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
        found = dict(getattr(registry.get(dataset['type']), 'METAINFO', None) or {})
    return {**found, **(dataset.get('metainfo') or {})}
