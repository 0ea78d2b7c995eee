"""Training hooks."""
from __future__ import annotations

import os.path as osp

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..models.adapter import save_adapter
from ..models.checkpoint import training_seconds
from ..models.find import find_patch_embed


@HOOKS.register_module()
class AdapterHook(Hook):
    """Save the tuned kernels alone, beside the full checkpoints or instead of them (``default_hooks.checkpoint=None``).

    Args:
        interval: Save every so many epochs, or iterations with ``by_epoch=False``; the end of training always saves.
        by_epoch: Unit of ``interval``.
        filename: Name of the file in ``work_dir``; each save replaces the one before.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, by_epoch: bool = True, filename: str = 'adapter.safetensors') -> None:
        self.interval, self.by_epoch, self.filename = interval, by_epoch, filename

    def before_run(self, runner: Runner) -> None:
        find_patch_embed(runner.model)    # refused before an hour of training, not after

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._save(runner)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self._save(runner)

    def after_train(self, runner: Runner) -> None:
        self._save(runner)
        runner.logger.info(f'The adapter is in {osp.join(runner.work_dir, self.filename)}.')

    def _save(self, runner: Runner) -> None:
        if is_main_process():
            save_adapter(find_patch_embed(runner.model), osp.join(runner.work_dir, self.filename),
                         training_seconds(runner.message_hub.log_scalars))
