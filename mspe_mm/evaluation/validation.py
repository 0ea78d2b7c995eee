"""Validation below the base resolution, while the patch embedding is tuned: at the base resolution nothing changes.

``custom_imports`` of a config names this module beside that of the host::

    custom_imports = dict(imports=['mspe_mm.seg', 'mspe_mm.evaluation.validation'], allow_failed_imports=False)
    val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)
    default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='mIoU@1/4'))
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import Runner, ValLoop
from torch.utils.data import DataLoader, Dataset

from ..data.change_resolution import at_resolution
from ..data.pairs import evenly
from ..errors import InputError, check_distinct
from ..models.find import find_patch_embed
from ..runtime.data_checks import check_data, leaf_configs
from ..runtime.unwrap import unwrapped
from .tasks import task_of


@DATA_SAMPLERS.register_module()
class EvenSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` of some images, evenly over the data set and in its order.

    Args:
        dataset: The data set.
        num_images: How many; all of a smaller data set.
        **settings: Of ``DefaultSampler``.

    Attributes:
        chosen: Indices of the images, those of all processes.
    """

    def __init__(self, dataset: Dataset, num_images: int, **settings: Any) -> None:
        self.chosen = evenly(min(num_images, len(dataset)), len(dataset))
        super().__init__(self.chosen, **{**settings, 'shuffle': False})

    def __iter__(self) -> Iterator[int]:
        return (self.chosen[index] for index in super().__iter__())


@LOOPS.register_module()
class MultiResolutionValLoop(ValLoop):
    """mmengine's ``ValLoop`` at several shares of the base resolution, as rows of the sweep: ``mIoU@1/4``, ``mIoU@1/2``.

    The logger, ``save_best`` and ``EarlyStoppingHook`` take these names.

    Args:
        runner: The runner; its model has an MSPE layer.
        dataloader: The config of a loader whose pipeline brings images to the base resolution.
        evaluator: The config of the evaluator.
        scales: Shares of the base resolution's sides: ``'1/4'``, or 0.25.
        num_images: How many images to validate on, evenly over the data set; None for all.
        fp16: See ``ValLoop``.

    Raises:
        InputError: For a scale that is no share, or is repeated, or a model without MSPE layer.
    """

    def __init__(self, runner: Runner, dataloader: dict, evaluator: dict | list,
                 scales: Sequence[str | float] = ('1/4', '1/2'), num_images: int | None = None, fp16: bool = False) -> None:
        shares = [_share(scale) for scale in scales]
        check_distinct(shares, 'scales of MultiResolutionValLoop')
        if not shares or (num_images is not None and num_images < 1):
            raise InputError('MultiResolutionValLoop needs at least one of scales, and num_images from 1')
        self.loaders = {share: _loader(runner, dataloader, float(share), num_images) for share in shares}
        self.task = task_of(runner.cfg)
        super().__init__(runner, self.loaders[shares[0]], evaluator, fp16)
        sampler = self.dataloader.sampler
        self.images = len(sampler.chosen) if num_images else len(self.dataloader.dataset)
        for metric in self.evaluator.metrics if num_images else ():
            if hasattr(metric, 'img_ids'):    # CocoMetric's, which would count the other images as missed
                metric.img_ids = [self.dataloader.dataset.get_data_info(index)['img_id'] for index in sampler.chosen]

    def run(self) -> dict:
        """Validate at each of the scales."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        model = unwrapped(self.runner.model)
        self.runner.model.eval()
        metrics = {}
        for share, loader in self.loaders.items():
            with self.task.scaled_inference(model, (float(share), float(share))):
                for index, batch in enumerate(loader):
                    self.run_iter(index, batch)
            metrics.update({f'{name}@{share}': value for name, value in self.evaluator.evaluate(self.images).items()})
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


def _share(scale: str | float) -> Fraction:
    try:
        share = Fraction(scale).limit_denominator(1000)
    except (TypeError, ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 2:
        raise InputError(f"scales of MultiResolutionValLoop has {scale!r}: give shares of the base resolution, such as "
                         "'1/4'")
    return share


def _loader(runner: Runner, dataloader: dict, share: float, num_images: int | None) -> DataLoader:
    """The loader of a config, with images at a share of the base resolution."""
    downsampling = find_patch_embed(unwrapped(runner.model)).downsampling
    config = copy.deepcopy(dataloader)
    for dataset in leaf_configs(config['dataset']):
        dataset['pipeline'] = at_resolution(dataset['pipeline'], scale=(share, share), antialias=downsampling.antialias,
                                            interpolation=downsampling.interpolation)
    config['persistent_workers'] = False    # one loader after the other
    if num_images is not None:
        config['sampler'] = dict(type='EvenSampler', num_images=num_images)
    loader = runner.build_dataloader(config, seed=runner.seed)
    check_data(loader.dataset, runner.model)
    return loader
