"""What every tool does: arguments, config, and one sentence instead of a traceback."""
from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.checkpoint import UntrustedCheckpointError, trusting_checkpoints
from . import fileio, runner  # noqa: F401  registers the backend and the runner
from .compilation import compile_blocks
from .data_checks import check_loading
from .memory_format import use_channels_last
from .mixed_precision import DTYPES, use_mixed_precision
from .runner import layer_key, load_adapter_for  # noqa: F401  for the tools
from .signals import sigterm_as_exit

TRUST = argparse.ArgumentParser(add_help=False)
"""The option that :func:`run` reads before a tool does; a parent of every tool's parser."""
TRUST.add_argument('--trust-checkpoint', action='store_true', help='read checkpoints that need to run code of their own; '
                   'only for files from a source that you trust')


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
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings that override the config, e.g. load_from=ckpt.pth train_dataloader.batch_size=8; '
                        'lists as key="[a,b]"')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by torch.distributed.launch')
    return parser


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """How a model that is only tested may run faster, see :func:`speed_up`."""
    parser.add_argument('--amp', nargs='?', const=DTYPES[0], choices=DTYPES, metavar='DTYPE',
                        help=f'mixed precision: {" or ".join(DTYPES)}; default %(const)s')
    parser.add_argument('--compile', action='store_true', help="compile the encoder's blocks")
    parser.add_argument('--channels-last', action='store_true', help='convolutions of necks and heads channels-last')


def load_config(args: argparse.Namespace) -> Config:
    """The config of a tool's arguments, with the checks of this package switched on.

    Raises:
        InputError: If the config is missing or not a config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise InputError(f'config {args.config} does not exist')
    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
    except (SyntaxError, KeyError, TypeError, ImportError, FileNotFoundError, NameError) as error:
        raise InputError(f'config {args.config} cannot be read: {" ".join(str(error).split())}') from error
    if 'model' not in cfg:
        raise InputError(f'config {args.config} has no model')
    cfg.launcher = args.launcher
    cfg.adapter = args.adapter
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    head = cfg.model.get('decode_head') or {}
    head = head[-1] if isinstance(head, list) else head
    for part in cfg.values():    # Config itself is no dict
        check_loading(part, head.get('num_classes'), head.get('ignore_index', 255))
        if 'timm_name' in cfg.model:
            match_transforms(part, cfg.model)
    return cfg


def match_transforms(cfg: dict, model: dict) -> None:
    """Give, in place, every ``TimmTransform`` of a config the model's name and image size, unless it has its own."""
    if isinstance(cfg, dict):
        if cfg.get('type') == 'TimmTransform':
            cfg.setdefault('timm_name', model['timm_name'])
            base = (model.get('patch_embed') or {}).get('base_resolution')
            cfg.setdefault('img_size', base or (model.get('model_kwargs') or {}).get('img_size'))
        cfg = list(cfg.values())
    if isinstance(cfg, (list, tuple)):
        for item in cfg:
            match_transforms(item, model)


def loads_own_weights(cfg: Config) -> bool:
    """Whether the model of a config is made with trained weights, as timm's models can be."""
    return 'timm_name' in cfg.model and bool(cfg.model.get('pretrained') or cfg.model.get('checkpoint'))


def require_weights(cfg: Config, args: argparse.Namespace) -> None:
    """Raise an InputError if neither the arguments nor the config name trained weights."""
    if not (args.checkpoint or loads_own_weights(cfg)):
        raise InputError(f'the model of {args.config} has no trained weights of its own: give a CHECKPOINT after it')


def resolution(text: str) -> list[int]:
    """The type of an argument that is a resolution: HEIGHTxWIDTH, or a height alone."""
    return _lengths(text, 'resolution', 'height in pixels, or HEIGHTxWIDTH')


def token_grid(text: str) -> list[int]:
    """The type of an argument that is a token grid: ROWSxCOLUMNS, or a number of rows alone."""
    return _lengths(text, 'token grid', 'number of rows, or ROWSxCOLUMNS')


def _lengths(text: str, what: str, unit: str) -> list[int]:
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is no {what}: give a positive {unit}')
    return [int(length) for length in text.split('x')]


def full_sizes(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    """Pairs of the resolutions or token grids given; a height or number of rows alone gets the aspect ratio of ``base``."""
    return [(s[0], s[1] if len(s) == 2 else max(1, round(s[0] * base[1] / base[0]))) for s in given]


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
    except ValueError as error:
        raise InputError(f'the model of {cfg.filename} cannot be built: {error}') from error


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: this package's, unless the config names its own ``runner_type``."""
    cfg.setdefault('runner_type', 'MSPERunner')
    return RUNNERS.build(cfg)


def speed_up(model: torch.nn.Module, args: argparse.Namespace) -> dict:
    """Have a runner's model run as the arguments of :func:`add_speed_arguments` say; returns what identifies such a run.

    Raises:
        InputError: If it cannot.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
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
        InputError: Naming the config if there is none.
    """
    for module in model.modules():
        if isinstance(module, MultiScalePatchEmbed):
            return module
    raise InputError(f'config {config} has no MSPE patch embedding: use a config with an MSPE backbone, such as '
                     'configs/setr_mspe_camvid.py')


def run(main: Callable[[], None]) -> None:
    """Run a tool; bad input and a full disk end it with one sentence on stderr and exit code 1.

    SIGINT ends it with exit code 1 and SIGTERM with 143, as shells count; both clear up unfinished files and processes.
    """
    logging.raiseExceptions = False    # a log that cannot be written must not bury the sentence that says so
    try:
        with sigterm_as_exit(), trusting_checkpoints(TRUST.parse_known_args()[0].trust_checkpoint):
            main()
    except UntrustedCheckpointError as error:
        sys.exit(f'error: {error}; pass --trust-checkpoint if you trust its source')
    except InputError as error:
        # A data-loading worker hands on its error as a whole traceback; the sentence is what follows the class name.
        sentence = str(error).strip().rpartition(f'{InputError.__name__}: ')[2]
        sys.exit(f'error: {sentence}')
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            sys.exit(f'error: {error.strerror} while writing {error.filename or "results"}: free some room and run again; '
                     'what was saved before is intact')
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            sys.exit(f'error: {error.strerror}: {error.filename}')
        raise
    except KeyboardInterrupt:
        sys.exit('interrupted')
