"""Training hooks."""
from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..errors import InputError
from ..files import remove_stale, replacing
from ..models.adapter import check_values, save_adapter
from ..models.checkpoint import training_seconds
from ..models.find import find_patch_embed, has_patch_embed
from .fileio import SafeLocalBackend


class SafeCheckpointHook(CheckpointHook):
    """mmengine's hook, but after a kill at any moment ``last_checkpoint`` names a complete checkpoint.

    mmengine removes the oldest checkpoint, writes the new one, and then truncates and rewrites ``last_checkpoint``. Here
    each file is written whole (:mod:`~mspe_mm.files`), and the oldest checkpoint is removed last.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='mspe_safe')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        too_old = []
        if self.max_keep_ckpts > 0:
            if step not in self.keep_ckpt_ids:
                if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                    too_old.append(self.keep_ckpt_ids.popleft())
                self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
            backend_args=self.backend_args, **self.args)
        if not is_main_process():
            return
        with replacing(Path(runner.work_dir) / 'last_checkpoint') as temporary:
            Path(temporary).write_text(self.last_ckpt)
        backend = LocalBackend() if isinstance(self.file_backend, SafeLocalBackend) else self.file_backend
        for old in too_old:
            path = backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            if backend.isfile(path):
                backend.remove(path)


def without_functions(states: list[dict] | dict[str, list[dict]]) -> list[dict] | dict[str, list[dict]]:
    """The states of schedulers, of each optimizer if there are several, without functions; a new scheduler has its own."""
    if isinstance(states, dict):
        return {name: without_functions(own) for name, own in states.items()}
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


class SoundTrainingHook(Hook):
    """Ends a training that has diverged, before its weights replace an adapter or a checkpoint; removes stale files.

    It keeps functions out of checkpoints.

    Reading the loss costs no extra time: mmengine's ``RuntimeInfoHook`` reads it in every iteration anyway.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        if is_main_process():
            remove_stale(runner.work_dir)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        if 'loss' not in (outputs or {}):
            return
        loss = float(torch.as_tensor(outputs['loss']).detach())
        if not math.isfinite(loss):
            raise InputError(f'the loss of iteration {runner.iter + 1} is {loss}: training has diverged; lower the learning '
                             f'rate or check the data; the checkpoint and adapter in {runner.work_dir} are those before')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if 'param_schedulers' in checkpoint:    # OneCycleLR keeps a function, which cannot be read without running code
            checkpoint['param_schedulers'] = without_functions(checkpoint['param_schedulers'])
        if has_patch_embed(runner.model):
            check_values(find_patch_embed(runner.model).kernels.state_dict(),
                         f'no checkpoint is written after iteration {runner.iter + 1}, training has diverged')
        for name, value in checkpoint['state_dict'].items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise InputError(f'{name} has values that are not finite after iteration {runner.iter + 1}: training has '
                                 f'diverged; lower the learning rate; the checkpoint and adapter in {runner.work_dir} are '
                                 'those before')


class LossScaleHook(Hook):
    """Logs the loss scale of mixed precision, and which steps it skipped because a gradient overflowed.

    In the log ``skipped`` is a share of the steps; in the history of the message hub it is 0 or 1 for each.
    """

    priority = 'ABOVE_NORMAL'    # before the hook that logs

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if hasattr(runner.optim_wrapper, 'loss_scaler'):
            self.before = runner.optim_wrapper.loss_scaler.get_scale()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if hasattr(runner.optim_wrapper, 'loss_scaler'):
            scale = runner.optim_wrapper.loss_scaler.get_scale()
            runner.message_hub.update_scalar('train/loss_scale', scale)
            runner.message_hub.update_scalar('train/skipped', int(scale < self.before))


@HOOKS.register_module()
class AdapterHook(Hook):
    """Save the tuned kernels alone, beside the full checkpoints or instead of them (``default_hooks.checkpoint=None``).

    The adapter of an earlier training in the same work dir is renamed and kept, as mmengine keeps its logs.

    Args:
        interval: Save every so many epochs, or iterations with ``by_epoch=False``; the end of training always saves.
        by_epoch: Unit of ``interval``.
        filename: Name of the file in ``work_dir``; each save replaces the one before.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, by_epoch: bool = True, filename: str = 'adapter.safetensors') -> None:
        self.interval, self.by_epoch, self.filename = interval, by_epoch, filename
        self.own = False    # whether the file is of this training

    def before_run(self, runner: Runner) -> None:
        find_patch_embed(runner.model)    # a model without the layer is refused before training, not after it

    def before_train(self, runner: Runner) -> None:
        self.own = runner.iter > 0    # resumed

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._save(runner)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self._save(runner)

    def after_train(self, runner: Runner) -> None:
        self._save(runner)
        runner.logger.info(f'The adapter is in {self._path(runner)}.')

    def _path(self, runner: Runner) -> Path:
        return Path(runner.work_dir) / self.filename

    def _save(self, runner: Runner) -> None:
        if is_main_process():
            path = self._path(runner)
            if not self.own and path.is_file():
                self._keep(path, runner)
            self.own = True
            save_adapter(find_patch_embed(runner.model), path, training_seconds(runner.message_hub.log_scalars))

    def _keep(self, path: Path, runner: Runner) -> None:
        saved = time.strftime('%Y%m%d_%H%M%S', time.localtime(path.stat().st_mtime))
        kept = path.with_name(f'{path.stem}_{saved}{path.suffix}')
        path.rename(kept)
        runner.logger.info(f'The adapter of an earlier training in {runner.work_dir} is kept as {kept.name}.')
