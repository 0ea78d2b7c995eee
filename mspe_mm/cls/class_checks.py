"""Whether model and data have the same classes."""
from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import InputError


def check_classes(classes: Sequence[str] | None, num_classes: int) -> None:
    """Raise an InputError if a head of ``num_classes`` outputs does not fit ``classes``."""
    if classes is not None and len(classes) != num_classes:
        raise InputError(f'the head of the model has {num_classes} classes, and the data set has {len(classes)} '
                         f'({", ".join(map(str, classes[:3]))}{", ..." if len(classes) > 3 else ""}): set '
                         'model.model_kwargs.num_classes, or name all classes of the head in metainfo.classes')


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Refuse, before training, data whose classes are not those of the head, or differ from training to validation.

    Raises:
        InputError: Naming the classes.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        classes = runner.train_dataloader.dataset.metainfo.get('classes')
        check_classes(classes, model.num_classes)
        if runner.val_loop is not None:
            others = runner.val_dataloader.dataset.metainfo.get('classes')
            if classes is not None and classes != others:    # images without labels have none
                differing = sorted(set(classes) ^ set(others or ()))
                example = f' (only one has {differing[0]!r})' if differing else ''
                raise InputError(f'training and validation data have other classes or another order of them{example}: name '
                                 'them in metainfo.classes of both')
