"""The common part of all tools: arguments, config, and one sentence instead of a traceback."""
from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.checkpoint import UntrustedCheckpointError, trusting_checkpoints
from ..models.find import find_patch_embed
from .compilation import compile_blocks
from .config_bases import config_path
from .config_errors import config_error
from .fast_products import fast_cpu_products
from .memory_format import use_channels_last
from .mixed_precision import DTYPES, use_mixed_precision
from .runner import MSPERunner
from .signals import sigterm_as_exit
from .unwrap import unwrapped

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRONG_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
              errno.ENAMETOOLONG)

TRUST = argparse.ArgumentParser(add_help=False)
"""The option that :func:`run` reads before the tool parses its arguments; a parent of every tool's parser."""
TRUST.add_argument('--trust-checkpoint', action='store_true', help='let checkpoints run their own code while they are read; '
                   'only for files from a source that you trust')


class Options(DictAction):
    """mmengine's ``DictAction``; argparse reports its errors."""

    def __call__(self, *args, **kwargs) -> None:
        try:
            super().__call__(*args, **kwargs)
        except (AssertionError, ValueError) as error:
            raise argparse.ArgumentError(self, f'{error}: write KEY=VALUE') from error


def parser(description: str, checkpoint: bool = False) -> argparse.ArgumentParser:
    """The host tools' usual arguments, plus ``--adapter``."""
    parser = argparse.ArgumentParser(description=description, parents=[TRUST])
    parser.add_argument('config', help='config file')
    if checkpoint:
        parser.add_argument('checkpoint', nargs='?', help='base checkpoint, path or URL; not needed for a timm model with '
                            'pretrained=True or a checkpoint of its own')
    parser.add_argument('--work-dir', help='where logs and results go; default ./work_dirs/<config name>')
    parser.add_argument('--adapter', metavar='FILE', help='tuned patch embedding (.safetensors) to load on top of the '
                        'base checkpoint')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='settings that override the config, e.g. load_from=ckpt.pth train_dataloader.batch_size=8; '
                        'lists as key="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch')
    return parser


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that make tests faster, see :func:`speed_up`."""
    parser.add_argument('--amp', nargs='?', const=DTYPES[0], choices=DTYPES, metavar='DTYPE',
                        help=f'mixed precision: {" or ".join(DTYPES)}; default %(const)s')
    parser.add_argument('--compile', action='store_true', help="compile the encoder's blocks")
    parser.add_argument('--channels-last', action='store_true', help='run the convolutions of necks and heads in the '
                        'channels-last memory format')


def load_config(args: argparse.Namespace) -> Config:
    """The config that a tool's arguments name, with their ``--cfg-options``.

    Raises:
        InputError: If the config is missing or not a config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.adapter = args.adapter
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """A config file, or one of this package (``mspe_mm::setr_mspe_camvid.py``), with ``options`` as of ``--cfg-options``.

    Raises:
        InputError: If the file is missing or no config of a model.
    """
    path = config_path(str(path))
    if not Path(path).is_file():
        raise InputError(f'config {path} does not exist')
    try:
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(options or {})
    except Exception as error:    # a config is a program
        if getattr(error, 'errno', None) in FULL_DISK:    # mmengine writes a temporary copy of the config
            raise
        raise InputError(f'config {path} cannot be read: {type(error).__name__}: {" ".join(str(error).split())}') from error
    if not isinstance(cfg.get('model'), dict) or not cfg.model.get('type'):
        raise InputError(f'config {path} has no model: it must be a dict with a type')
    return cfg


def loads_own_weights(cfg: Config) -> bool:
    """Whether the model of a config is built with trained weights, as timm's models can be."""
    return 'timm_name' in cfg.model and bool(cfg.model.get('pretrained') or cfg.model.get('checkpoint'))


def initialises_own_weights(cfg: Config) -> bool:
    """Whether a training of the config begins with trained weights, which the model loads itself.

    A model with a head has to be given the weights of the head too, whatever those of its backbone are.
    """
    backbone = cfg.model.get('backbone') or {}
    return loads_own_weights(cfg) or (cfg.model.type == 'MSPEFeatureModel'
                                      and bool(backbone.get('pretrained') or backbone.get('init_cfg')))


def require_weights(cfg: Config, args: argparse.Namespace) -> None:
    """Raise an InputError if neither the arguments nor the config name trained weights."""
    if not (args.checkpoint or loads_own_weights(cfg)):
        raise InputError(f'the model of {args.config} has no trained weights of its own: give a CHECKPOINT after the config')


def positive(text: str) -> int:
    """The type of an argument that is a whole number from 1."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """The type of an argument that is a whole number from 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not re.fullmatch(r'-?\d+', text) or int(text) < least:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least {least}')
    return int(text)


def read_pipeline(cfg: Config, key: str | None) -> list[dict] | None:
    """The pipeline of transforms under ``key`` of a config; None for no key.

    Raises:
        InputError: If there is none.
    """
    if key is None:
        return None
    steps = cfg.get(key)
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) and 'type' in step for step in steps):
        raise InputError(f'config {cfg.filename} has no pipeline {key}: it must be a list of transforms, such as '
                         f"{key} = [dict(type='CompressJPEG', quality=50)]")
    return steps


def build_model(cfg: Config) -> torch.nn.Module:
    """The model of a config, without a runner.

    Raises:
        InputError: If its settings contradict each other.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    try:
        return MODELS.build(cfg.model)
    except (AssertionError, ValueError) as error:
        raise InputError(f'the model of {cfg.filename} cannot be built: {error}') from error


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: this package's, unless the config names its own ``runner_type``."""
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else MSPERunner.from_cfg(cfg)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'config {cfg.filename} cannot be run: {" ".join(str(error).split())}') from error


def speed_up(model: torch.nn.Module, args: argparse.Namespace) -> dict:
    """Apply the arguments of :func:`add_speed_arguments` to a runner's model; returns the settings that identify the run.

    Raises:
        InputError: If it cannot.
    """
    model = unwrapped(model)
    if args.amp:
        use_mixed_precision(model, args.amp)
    if args.compile:
        compile_blocks(model)
    if args.channels_last:
        use_channels_last(model)
    return dict(precision=args.amp or 'float32', compile=args.compile, channels_last=args.channels_last)


def require_mspe(model: torch.nn.Module, config: str) -> MultiScalePatchEmbed:
    """The MSPE layer of a model.

    Raises:
        InputError: Naming the config if there is none, or more than one.
    """
    try:
        return find_patch_embed(model)
    except InputError as error:
        raise InputError(f'config {config} has no MSPE model for this tool: {error}; configs/setr_mspe_camvid.py '
                         'has one') from error


def run(main: Callable[[], None], fast_products: bool | None = None) -> None:
    """Run a tool; bad input and a full disk end it with one sentence on stderr and exit code 1.

    SIGINT ends it with exit code 1 and SIGTERM with 143, as shells count; both clear up unfinished files and processes.

    Args:
        main: What the tool does.
        fast_products: Of :func:`~mspe_mm.runtime.fast_products.fast_cpu_products`, within which it runs.
    """
    logging.raiseExceptions = False    # a traceback of a log that cannot be written would hide the sentence
    try:
        with (sigterm_as_exit(), trusting_checkpoints(TRUST.parse_known_args()[0].trust_checkpoint),
              fast_cpu_products(fast_products)):
            main()
            if torch.distributed.is_initialized():    # threads of gloo that still run at the exit can abort the process
                torch.distributed.destroy_process_group()
    except UntrustedCheckpointError as error:
        sys.exit(f'error: {error}; pass --trust-checkpoint if you trust its source')
    except InputError as error:
        # An error of a data-loading worker arrives as a whole traceback, in which the sentence follows the class name.
        sentence = str(error).strip().rpartition(f'{InputError.__name__}: ')[2]
        sys.exit(f'error: {sentence}')
    except OSError as error:
        if error.errno in FULL_DISK:
            _disk_is_full(error.strerror, error.filename)
        if error.errno in WRONG_PATH:
            sys.exit(f'error: {error.strerror}: {error.filename}')
        raise
    except Exception as error:
        for code in FULL_DISK:    # PyTorch and safetensors raise their own exceptions, with the system's message
            if _mentions(error, code):
                _disk_is_full(os.strerror(code))
        if sentence := config_error(error):
            sys.exit(f'error: {sentence}')
        raise
    except KeyboardInterrupt:
        sys.exit('interrupted')


def _disk_is_full(reason: str, filename: str | None = None) -> NoReturn:
    sys.exit(f'error: {reason} while writing {filename or "results"}: free some room and run again; what was saved before '
             'is intact')


def _mentions(error: BaseException | None, code: int) -> bool:
    """Whether an error, or one that it follows from, is the system's error ``code``."""
    return error is not None and (getattr(error, 'errno', None) == code or f'os error {code})' in str(error)
                                  or os.strerror(code) in str(error) or _mentions(error.__context__, code))
