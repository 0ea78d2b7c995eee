"""Checks of the data, so that a bad file ends a run with its name instead of a wrong number."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS

from ..errors import InputError


@TRANSFORMS.register_module()
class CheckedLoading:
    """Run a loading transform of the host and refuse what it lets through.

    Args:
        transform: Config of the loading transform (``LoadImageFromFile``, ``LoadAnnotations``, ...).
        num_classes: With a number, semantic masks may hold 0 .. num_classes - 1 and the ignore index only.
        ignore_index: Label of pixels that do not count.

    Raises:
        InputError: Naming the file that is missing, cannot be decoded, has another size than its image or holds a class
            that the config does not have.
    """

    def __init__(self, transform: dict, num_classes: int | None = None, ignore_index: int = 255) -> None:
        self.loading = TRANSFORMS.build(transform)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.loads_annotations = 'Annotations' in transform['type']
        self.loads_instances = self.loads_annotations and (transform.get('with_bbox') or transform.get('with_mask'))

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
        if 'ori_shape' in results and mask.shape[:2] != tuple(results['ori_shape'][:2]):
            raise InputError(f'{path} is {mask.shape[0]} x {mask.shape[1]} px, and its image {results["img_path"]} is '
                             f'{results["ori_shape"][0]} x {results["ori_shape"][1]} px: they must have one size')
        wrong = np.setdiff1d(np.unique(mask), [*range(self.num_classes), self.ignore_index])
        if wrong.size:
            raise InputError(f'{path} holds class {int(wrong[0])}, and the config has {self.num_classes} classes '
                             f'(0 to {self.num_classes - 1}, {self.ignore_index} = ignore)')


def check_loading(cfg: dict, num_classes: int | None = None, ignore_index: int = 255) -> None:
    """Wrap, in place, every loading transform of every pipeline of a config in :class:`CheckedLoading`.

    Args:
        cfg: A config, or any part of one.
        num_classes: Classes of a semantic segmentation model, None for other tasks.
        ignore_index: Its label of pixels that do not count.
    """
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            check_loading(item, num_classes, ignore_index)
    elif isinstance(cfg, dict):
        for key, value in cfg.items():
            if key == 'pipeline' and isinstance(value, (list, tuple)):
                cfg[key] = [_checked(step, num_classes, ignore_index) for step in value]
            elif not isinstance(value, (str, bytes)):
                check_loading(value, num_classes, ignore_index)


def _checked(step: dict, num_classes: int | None, ignore_index: int) -> dict:
    name = step.get('type') if isinstance(step, dict) else None
    if not isinstance(name, str) or name.rpartition('.')[2] not in ('LoadImageFromFile', 'LoadAnnotations'):
        return step
    return dict(type='CheckedLoading', transform=dict(step), num_classes=num_classes, ignore_index=ignore_index)


def empty_data_set(dataset: dict) -> InputError:
    """The error of a data set, given by its config, that has no samples."""
    dataset = _innermost(dataset)
    if dataset.get('ann_file'):
        return InputError(f'{_annotation_file(dataset)} has no image with an annotation of the classes of the config: check '
                          'metainfo.classes, filter_cfg and the category ids')
    prefix = dataset.get('data_prefix') or {}
    folder = Path(dataset.get('data_root') or '', prefix.get('img_path') or prefix.get('img') or '')
    return InputError(f'there are no images in {folder}: check data_root, data_prefix and the file name suffixes of the '
                      'data set')


def data_set_error(dataset: dict, error: Exception) -> Exception:
    """What to raise for a data set, given by its config, that the host could not read: ``error`` if no file is to blame."""
    if 'need at least one array' in str(error):    # what mmengine's data set says of an empty list
        return empty_data_set(dataset)
    dataset = _innermost(dataset)
    if not dataset.get('ann_file'):
        return error
    return InputError(
        f'{_annotation_file(dataset)} cannot be read ({type(error).__name__}: {" ".join(str(error).split())})')


def _innermost(dataset: dict) -> dict:
    """The config inside wrappers such as RepeatDataset and ConcatDataset."""
    while 'dataset' in dataset or 'datasets' in dataset:
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def _annotation_file(dataset: dict) -> Path:
    return Path(dataset.get('data_root') or '', dataset['ann_file'])
