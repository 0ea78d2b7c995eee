"""Checks of the data: a bad file ends a run with a sentence that names it, instead of giving wrong figures.

A data set is checked once it is built: :func:`check_data` puts a check around its loading transforms. Our runner does so for
every data loader; :class:`DataCheckHook` does it for any other runner. The config is not changed.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from mmengine.dataset import Compose, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from PIL import Image
from torch import nn

from ..errors import InputError
from .config_errors import config_error
from .unwrap import unwrapped

LOADING = ('LoadImageFromFile', 'LoadAnnotations')
BYTE_MODES = ('1', 'L', 'P')    # of PIL


@TRANSFORMS.register_module()
class CheckedLoading:
    """Run a loading transform of the host, and refuse bad files that it accepts.

    Args:
        transform: The loading transform (``LoadImageFromFile``, ``LoadAnnotations``), or its config.
        num_classes: With a number, semantic masks may hold 0 .. num_classes - 1 and the ignore index only.
        ignore_index: Label of pixels that do not count.

    Raises:
        InputError: Naming the file that is missing, cannot be decoded, has another size than its image, more than one
            channel, or a class that the model does not have.
    """

    def __init__(self, transform: Mapping | Callable, num_classes: int | None = None, ignore_index: int = 255) -> None:
        self.loading = TRANSFORMS.build(transform) if isinstance(transform, Mapping) else transform
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.loads_annotations = 'Annotations' in type(self.loading).__name__
        self.loads_instances = self.loads_annotations and any(
            getattr(self.loading, name, False) for name in ('with_bbox', 'with_mask'))

    def __call__(self, results: dict) -> dict | None:
        path = results.get('seg_map_path' if self.loads_annotations else 'img_path') or results.get('img_path')
        if isinstance(path, str) and '://' not in path and not Path(path).is_file():
            raise InputError(f'{path} does not exist')
        try:
            loaded = self.loading(results)
        except Exception as error:
            what = f'the annotation of {path}' if self.loads_instances else path
            raise InputError(f'{what} cannot be decoded ({type(error).__name__}: {" ".join(str(error).split())})') from None
        if loaded is not None and self.num_classes is not None and 'gt_seg_map' in loaded:
            self._check_mask(loaded, path)
        return loaded

    def _check_mask(self, results: dict, path: str) -> None:
        mask = results['gt_seg_map']
        if mask is None:
            raise InputError(f'{path} cannot be decoded')
        if mask.ndim < 2:    # squeezed by the host
            raise InputError(f'{path} is one pixel wide or high: the host reads masks of two pixels and more')
        if mask.ndim > 2:
            raise InputError(f'{path} has {mask.shape[-1]} channels: a mask must have one, with the class of every pixel')
        if 'ori_shape' in results and mask.shape[:2] != tuple(results['ori_shape'][:2]):
            raise InputError(f'{path} is {mask.shape[0]} x {mask.shape[1]} px, and its image {results["img_path"]} is '
                             f'{results["ori_shape"][0]} x {results["ori_shape"][1]} px: they must have one size')
        _check_bytes(path)
        wrong = np.setdiff1d(np.unique(mask), [*range(self.num_classes), self.ignore_index])
        if wrong.size:
            raise InputError(f'{path} holds class {int(wrong[0])}, and the config has {self.num_classes} classes '
                             f'(0 to {self.num_classes - 1}, {self.ignore_index} = ignore)')


def _check_bytes(path: str) -> None:
    """Refuse a mask file whose values need more than 8 bits: the host keeps only the last 8 bits."""
    with suppress(OSError), Image.open(path) as image:    # the host read files that PIL cannot read by another decoder
        if image.mode in BYTE_MODES:    # known from the header
            return
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 255:
            worst = values.max() if values.max() > 255 else values.min()
            raise InputError(f'{path} holds class {worst}, and masks are read with 8 bits: write classes from 0 to 255')


class EarlyDataHook(Hook, ABC):
    """Check the data of every loop before its first batch, and those of the validation before a training."""

    priority = 'VERY_HIGH'

    @abstractmethod
    def check(self, dataset: object, model: nn.Module) -> None:
        """Check a built data set, for a model."""

    def before_train(self, runner: Runner) -> None:
        check_ends(runner.train_loop)
        self.check(runner.train_dataloader.dataset, runner.model)
        if runner.val_loop is not None:    # not after the first epochs
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        self.check(runner.val_dataloader.dataset, runner.model)

    def before_test(self, runner: Runner) -> None:
        self.check(runner.test_dataloader.dataset, runner.model)


@HOOKS.register_module()
class DataCheckHook(EarlyDataHook):
    """Check the data of a runner by :func:`check_data`, before the first batch."""

    def check(self, dataset: object, model: nn.Module) -> None:
        check_data(dataset, model)


def check_ends(loop: BaseLoop) -> None:
    """Refuse a training by epochs on a sampler without end: its first epoch would never be over.

    Raises:
        InputError: Saying what to change.
    """
    loader = loop.dataloader
    samplers = loader.sampler, getattr(loader.batch_sampler, 'sampler', None)
    endless = [sampler for sampler in samplers if isinstance(getattr(sampler, 'sampler', sampler), InfiniteSampler)]
    if isinstance(loop, EpochBasedTrainLoop) and endless:
        raise InputError('train_cfg is an EpochBasedTrainLoop, and the sampler of train_dataloader is an InfiniteSampler, '
                         "whose epochs never end: set sampler=dict(type='DefaultSampler', shuffle=True), or train by "
                         "iterations with type='IterBasedTrainLoop' and max_iters")


def check_data(dataset: object, model: nn.Module) -> None:
    """Wrap the loading transforms of a data set in :class:`CheckedLoading`, in place, and match transforms to a model.

    Args:
        dataset: A built data set, or a wrapper such as ``ConcatDataset``.
        model: The model that it is for.
    """
    for leaf in leaf_datasets(dataset):
        if isinstance(getattr(leaf, 'pipeline', None), Compose):
            check_pipeline(leaf.pipeline, model)


def check_pipeline(pipeline: Compose, model: nn.Module) -> None:
    """:func:`check_data` for the transforms of one data set.

    A transform that depends on the model has a method ``match_model(model)``, which is called.
    """
    num_classes, ignore_index = mask_classes(model)
    for index, step in enumerate(pipeline.transforms):
        if type(step).__name__ in LOADING:
            pipeline.transforms[index] = CheckedLoading(step, num_classes, ignore_index)
        if hasattr(step, 'match_model'):
            step.match_model(unwrapped(model))
        for branch in getattr(step, 'subroutines', ()):    # of test-time augmentation
            check_pipeline(branch, model)


def mask_classes(model: nn.Module) -> tuple[int | None, int]:
    """How many classes the masks of a segmentor's data may have, and the label to ignore; None for other models."""
    head = getattr(unwrapped(model), 'decode_head', None)
    if isinstance(head, nn.ModuleList):    # a cascade
        head = head[-1]
    return getattr(head, 'num_classes', None), getattr(head, 'ignore_index', 255)


def leaf_datasets(dataset: object) -> Iterator[object]:
    """The data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    inner: Sequence = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner[0] is None:
        yield dataset
        return
    for part in inner:
        yield from leaf_datasets(part)


def leaf_configs(dataset: dict) -> Iterator[dict]:
    """:func:`leaf_datasets` of a config."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner[0] is None:
        yield dataset
        return
    for part in inner:
        yield from leaf_configs(part)


def empty_data_set(dataset: dict) -> InputError:
    """The error of a data set, given by its config, that has no samples."""
    dataset = next(leaf_configs(dataset))
    if dataset.get('ann_file'):
        return InputError(f'{_annotation_file(dataset)} has no image with an annotation of the classes of the config: check '
                          'metainfo.classes, filter_cfg and the category ids')
    prefix = dataset.get('data_prefix') or {}
    folder = Path(dataset.get('data_root') or '', prefix.get('img_path') or prefix.get('img') or '')
    return InputError(f'there are no images in {folder}: check data_root, data_prefix and the file name suffixes of the '
                      'data set')


def data_set_error(dataset: dict, error: Exception) -> Exception:
    """The exception for a data set, given by its config, that the host could not read; ``error`` if no file is at fault."""
    if sentence := config_error(error):
        return sentence
    if 'need at least one array' in str(error):    # what mmengine's data set says of an empty list
        return empty_data_set(dataset)
    dataset = next(leaf_configs(dataset))
    if not dataset.get('ann_file'):
        return error
    return InputError(
        f'{_annotation_file(dataset)} cannot be read ({type(error).__name__}: {" ".join(str(error).split())})')


def _annotation_file(dataset: dict) -> Path:
    return Path(dataset.get('data_root') or '', dataset['ann_file'])
