"""Checks of detection data sets against the config, before the first image is read."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mmengine.fileio import get_local_path
from mmengine.registry import HOOKS
from torch import nn

from ..errors import InputError
from ..runtime.data_checks import EarlyDataHook, leaf_datasets


@HOOKS.register_module()
class DatasetCheckHook(EarlyDataHook):
    """Refuse data sets whose classes are not those of the model.

    mmdet gives label i to the i-th category that an annotation file and the config have in common. If the file lacks a
    class, the labels of all following classes would shift silently.

    Raises:
        InputError: Naming the classes that differ.
    """

    def check(self, dataset: object, model: nn.Module) -> None:
        check_classes(dataset, model)


def check_classes(dataset: object, model: nn.Module) -> None:
    """Raise an InputError if annotation files, ``metainfo.classes`` and the heads' ``num_classes`` disagree."""
    for leaf in leaf_datasets(dataset):
        classes = leaf.metainfo.get('classes')
        if classes is None:
            continue
        if isinstance(classes, str):
            raise InputError(f'metainfo.classes of {leaf.ann_file} is the text {classes!r}: write a tuple, ({classes!r}, )')
        if len(getattr(leaf, 'cat_ids', classes)) != len(classes):
            missing = [name for name in classes if name not in category_names(leaf.ann_file, leaf.backend_args)]
            raise InputError(f'{leaf.ann_file} lacks {len(missing)} of the {len(classes)} classes of the config '
                             f'({", ".join(missing[:3])}{", ..." if len(missing) > 3 else ""}): set metainfo.classes to '
                             'those that it has')
        for name, head in class_heads(model):
            if head.num_classes != len(classes):
                raise InputError(f'{name}.num_classes={head.num_classes}, and {leaf.ann_file} is read with {len(classes)} '
                                 'classes: set num_classes or metainfo.classes')


def class_heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that predict classes, with their names; not the proposal network, which has one class."""
    for name, module in model.named_modules():
        if re.search(r'(^|\.)(bbox|mask)_head(\.\d+)?$', name) and isinstance(getattr(module, 'num_classes', None), int):
            yield name.removeprefix('module.'), module


def category_names(ann_file: str, backend_args: dict | None = None) -> set[str]:
    """Names of the categories of a COCO annotation file."""
    with get_local_path(ann_file, backend_args=backend_args) as path, open(path) as file:
        return {category['name'] for category in json.load(file)['categories']}
