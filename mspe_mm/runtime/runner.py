"""mmengine's runner with checked input."""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner, load_state_dict
from torch import nn

from ..errors import InputError
from ..layers.downsampling import DOWNSAMPLING_KEYS
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.adapter import AdapterMismatchError, load_adapter
from ..models.checkpoint import check_fits, named_for, read_checkpoint, weights_of
from ..models.find import find_patch_embed
from . import config_bases  # noqa: F401  finds the configs of this package
from .data_checks import check_data, check_ends, data_set_error, empty_data_set
from .epochs import ResumableEpochLoop
from .fileio import latest_checkpoint
from .hooks import AdapterHook, LossScaleHook, SafeCheckpointHook, SoundTrainingHook
from .randomness import RandomStateHook, seed_samples, with_seeded_samples
from .unwrap import unwrapped


def layer_key(cfg: Config) -> str:
    """The key of a config that has the settings of its MSPE layer."""
    return 'model.patch_embed' if cfg.model.get('patch_embed') or 'timm_name' in cfg.model else 'model.backbone'


def load_adapter_for(cfg: Config, layer: MultiScalePatchEmbed, path: str) -> None:
    """Load an adapter into the layer of a config's model.

    Raises:
        InputError: As :func:`~mspe_mm.models.adapter.load_adapter`. If an option gives the layer the adapter's setting, the
            message names it.
    """
    try:
        load_adapter(layer, path)
    except AdapterMismatchError as error:
        raise InputError(f'{error}{_option(cfg, error)}') from error


def _option(cfg: Config, error: AdapterMismatchError) -> str:
    key, value = error.setting, error.value
    if value is None or isinstance(value, dict) or key not in (
            'kernel_sizes', 'context', 'token_grids', 'parameterization', *DOWNSAMPLING_KEYS):
        return ''
    if key in DOWNSAMPLING_KEYS:
        key = f'downsampling.{key}'
    text = f'"{value}"' if isinstance(value, list) else str(value)
    return f'; add --cfg-options {layer_key(cfg)}.{key}={text}'


def _pretrained_files(model: nn.Module) -> set[str]:
    found = {_pretrained_file(getattr(module, 'init_cfg', None)) for module in model.modules()}
    return {path for path in found if path is not None}


def _pretrained_file(init_cfg: dict | list | None) -> str | None:
    """The file of weights that an ``init_cfg`` names, if it does."""
    for one in init_cfg if isinstance(init_cfg, list) else [init_cfg]:
        if isinstance(one, dict) and 'Pretrained' in str(one.get('type')) and one.get('checkpoint'):
            return one['checkpoint']
    return None


@RUNNERS.register_module()
class MSPERunner(Runner):
    """A ``Runner`` that refuses what the host only warns of, loads and writes adapters, and runs distributed on CPUs too.

    ``adapter`` of the config names an adapter file that is loaded after the base checkpoint. A run that tunes patch kernels
    writes one, also if its config has no ``AdapterHook``.
    """

    _needs_all_weights = False    # whether the checkpoint has to have what a missing file of pretrained weights would give

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        try:
            return super().build_model(model)
        except (AssertionError, ValueError) as error:
            raise InputError(f'the model of {self.cfg.filename} cannot be built: {error}') from error

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if self.distributed and not torch.cuda.is_available() and model_wrapper_cfg is None:
            # The host passes device_ids, which DistributedDataParallel refuses for a model on the CPU.
            find_unused = self.cfg.get('find_unused_parameters', False)
            if not any(p.requires_grad for p in model.parameters()):
                return model
            return MMDistributedDataParallel(
                module=model, broadcast_buffers=False, find_unused_parameters=find_unused)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hook(self, hook: Hook | dict, priority: str | int | None = None) -> None:
        """The host's, with ``SafeCheckpointHook`` for ``CheckpointHook``: checkpoints survive a kill at any moment."""
        if isinstance(hook, dict) and hook.get('type') in ('CheckpointHook', CheckpointHook):
            hook = dict(hook, type=SafeCheckpointHook)
        super().register_hook(hook, priority)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The host's, with repeatable random numbers (:mod:`~mspe_mm.runtime.randomness`) and a watch on the loss.

        Epochs are those of :class:`~mspe_mm.runtime.epochs.ResumableEpochLoop`.
        """
        by_epoch = isinstance(loop, dict) and (
            loop.get('by_epoch') or loop.get('type') in ('EpochBasedTrainLoop', EpochBasedTrainLoop))
        if by_epoch:
            loop = {**{key: value for key, value in loop.items() if key != 'by_epoch'}, 'type': ResumableEpochLoop}
        if isinstance(self._train_dataloader, dict) and isinstance(self._train_dataloader.get('sampler'), dict):
            self._train_dataloader = self.build_dataloader(
                with_seeded_samples(self._train_dataloader), seed=self.seed,
                diff_rank_seed=self._randomness_cfg.get('diff_rank_seed', False))
            seed_samples(self._train_dataloader)
        built = super().build_train_loop(loop)
        if built is not loop:
            check_ends(built)
            self.register_hook(RandomStateHook(built.dataloader))
            self.register_hook(SoundTrainingHook())
            self.register_hook(LossScaleHook())
            if getattr(self._bare_model, 'freezes', False) and not any(isinstance(hook, AdapterHook) for hook in self.hooks):
                self.register_hook(AdapterHook())
        return built

    def setup_env(self, env_cfg: dict) -> None:
        if self._launcher == 'pytorch' and not torch.cuda.is_available() and not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')    # the host would ask for a GPU
        super().setup_env(env_cfg)

    def build_dataloader(self, dataloader: dict, *args, **kwargs) -> torch.utils.data.DataLoader:
        """The host's, whose data is checked by :func:`~mspe_mm.runtime.data_checks.check_data`."""
        try:
            loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError(f'{error.filename or error} does not exist: check data_root and data_prefix') from error
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise data_set_error(dataloader['dataset'], error) from None
        if len(loader.dataset) == 0:
            raise empty_data_set(dataloader['dataset'])
        check_data(loader.dataset, self.model)
        return loader

    def _init_model_weights(self) -> None:
        """The host's, without files of pretrained weights that a checkpoint replaces.

        The host would run the code of such files: they are read safely before.
        """
        for module in unwrapped(self.model).modules():
            self._leave_out_pretrained(module)
        for path in _pretrained_files(self.model):
            read_checkpoint(path)
        super()._init_model_weights()

    def _leave_out_pretrained(self, module: nn.Module) -> None:
        """Remove ``init_cfg`` of a file of weights if a checkpoint has them all, and refuse a file that is missing.

        Likewise, a backbone of timm does not fetch ``pretrained`` weights that a checkpoint replaces.
        """
        if getattr(module, 'pretrained', None) is True and (
                self._resume or (self._load_from and self.cfg.get('strict_load'))):
            module.pretrained = False
        path = _pretrained_file(getattr(module, 'init_cfg', None))
        if path is None:
            return
        missing = '://' not in path and not Path(path).is_file()
        if self._resume or (self._load_from and (missing or self.cfg.get('strict_load'))):
            self._needs_all_weights = not self._resume
            module.init_cfg = None
        elif missing:
            raise InputError(f'{path}, which init_cfg of {type(module).__name__} names, does not exist: correct the path, '
                             'set that init_cfg to None, or give a whole checkpoint by load_from')

    def load_or_resume(self) -> None:
        fresh = not self._has_loaded
        if fresh and self._resume and self._load_from is None:
            self._load_from = latest_checkpoint(self.work_dir)
            self._resume = self._load_from is not None
        super().load_or_resume()
        adapter = self.cfg.get('adapter')
        if fresh and adapter and not self._resume:    # a resumed checkpoint has its own, newer kernels
            load_adapter_for(self.cfg, find_patch_embed(self._bare_model), adapter)
            self.logger.info(f'Load adapter from {adapter}')

    def resume(self, filename: str, *args, **kwargs) -> None:
        """The host's, but a file that is no checkpoint of this training is an InputError."""
        adapter = getattr(self._bare_model, 'adapter', None)
        if adapter:
            adapter.remove()    # the checkpoint has its own, newer kernels
        try:
            super().resume(filename, *args, **kwargs)
        except InputError:
            raise
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f'it has no {error}' if isinstance(error, KeyError) else ' '.join(str(error).split())
            raise InputError(f'checkpoint {filename} cannot be resumed, {reason}: give a checkpoint that a training with '
                             'this config has saved, or load its weights alone by load_from') from error

    def load_checkpoint(self,
                        filename: str,
                        map_location: str | Callable = 'cpu',
                        strict: bool = False,
                        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''), )) -> dict:
        """The host's, but a file that is missing, truncated or (``strict``) of another model is an InputError.

        ``strict`` is always on for a config with ``strict_load=True``.
        """
        checkpoint = read_checkpoint(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        state_dict = weights_of(checkpoint)
        for pattern, replacement in revise_keys:
            state_dict = {re.sub(pattern, replacement, key): value for key, value in state_dict.items()}
        state_dict = named_for(self._bare_model, state_dict)
        if strict or self._needs_all_weights or self.cfg.get('strict_load', False):
            check_fits(self._bare_model, state_dict, filename)
        load_state_dict(self._bare_model, state_dict, strict=False, logger='current')
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    @property
    def _bare_model(self) -> nn.Module:
        return unwrapped(self.model)
