"""The common part of all tools: arguments, config, and one sentence instead of a traceback."""
from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.checkpoint import UntrustedCheckpointError, trusting_checkpoints
from ..models.find import find_patch_embed, has_patch_embed
from .compilation import compile_blocks
from .config_bases import config_path
from .config_errors import config_error
from .fast_products import fast_cpu_products
from .memory_format import use_channels_last
from .mixed_precision import DTYPES, use_mixed_precision
from .runner import MSPERunner, layer_key, load_adapter_for  # noqa: F401  for the tools
from .signals import sigterm_as_exit
from .unwrap import unwrapped

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WRONG_PATH = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
              errno.ENAMETOOLONG)

LARGEST_SCALE = 8
"""Largest side of an image, as a multiple of the base resolution. The batch then has 64 times the pixels, and 64 times the
tokens if the grid follows the image. A kernel of 16 px becomes 128 px, whose pseudo-inverse is still fast."""

LARGEST_BUDGET = 16
"""Largest number of tokens, as a multiple of the base grid. Attention then costs 256 times as much, and position tables are
stretched four times along each side: larger grids give no useful results."""

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


def add_grid_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--token-grid`` of one grid, see :func:`forced_grid`."""
    parser.add_argument('--token-grid', type=token_grid, metavar='N', help='token grid of every image, ROWSxCOLUMNS or a '
                        'number of rows: fewer tokens cost less; default the base grid, or what the adapter has for the '
                        'resolution')


def forced_grid(layer: MultiScalePatchEmbed, args: argparse.Namespace) -> tuple[int, int] | None:
    """(rows, columns) that ``--token-grid`` asks for; None without it.

    Raises:
        InputError: For a grid that is too large.
    """
    return full_grids([args.token_grid], layer.grid_size)[0] if args.token_grid else None


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


def resolution(text: str) -> list[int]:
    """The type of an argument that is a resolution: HEIGHTxWIDTH, or a height alone."""
    return _lengths(text, 'resolution', 'height in pixels, or HEIGHTxWIDTH')


def token_grid(text: str) -> list[int]:
    """The type of an argument that is a token grid: ROWSxCOLUMNS, or a number of rows alone."""
    return _lengths(text, 'token grid', 'number of rows, or ROWSxCOLUMNS')


def _lengths(text: str, what: str, unit: str) -> list[int]:
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a {what}: give a positive {unit}')
    return [int(length) for length in text.split('x')]


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


def full_sizes(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the resolutions given; a height alone gets the aspect ratio of ``base``.

    Raises:
        InputError: For a side of more than :data:`LARGEST_SCALE` times that of ``base``.
    """
    sizes = _full(given, base)
    for height, width in sizes:
        if height > LARGEST_SCALE * base[0] or width > LARGEST_SCALE * base[1]:
            raise InputError(f'the resolution {height} x {width} px is more than {LARGEST_SCALE} times the base '
                             f'resolution of {base[0]} x {base[1]} px: give at most '
                             f'{LARGEST_SCALE * base[0]}x{LARGEST_SCALE * base[1]}')
    return sizes


def full_grids(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    """(rows, columns) of the token grids given; a number of rows alone gets the aspect ratio of ``base``.

    Raises:
        InputError: For a grid of more than :data:`LARGEST_BUDGET` times the tokens of ``base``.
    """
    grids = _full(given, base)
    most = LARGEST_BUDGET * base[0] * base[1]
    for rows, columns in grids:
        if rows * columns > most:
            raise InputError(f'the token grid {rows} x {columns} has {rows * columns} tokens, more than {LARGEST_BUDGET} '
                             f'times those of the base grid of {base[0]} x {base[1]}: give at most {most}')
    return grids


def _full(given: list[list[int]], base: tuple[int, int]) -> list[tuple[int, int]]:
    return [(s[0], s[1] if len(s) == 2 else max(1, round(s[0] * base[1] / base[0]))) for s in given]


def warn_off_grid(layer: MultiScalePatchEmbed, resolutions: list[tuple[int, int]]) -> None:
    """Print a warning for each of the ``resolutions`` (height, width) at which a layer leaves its base grid."""
    for size in resolutions:
        grid = layer.token_grid(size)
        if tuple(grid) != layer.grid_size:
            near = [max(1, round(length / cells)) * cells for length, cells in zip(size, layer.grid_size)]
            print(f'warning: {size[0]} x {size[1]} px give {grid[0]} x {grid[1]} tokens instead of '
                  f'{layer.grid_size[0]} x {layer.grid_size[1]}: the nearest multiples of the base grid are '
                  f'{near[0]} x {near[1]} px', file=sys.stderr)


@contextmanager
def warning_off_grid(model: torch.nn.Module) -> Iterator[None]:
    """Within the context, note the sizes of the images that a model sees; at its end, warn of those off their grid.

    At most three sizes are named, see :func:`warn_off_grid`. A model without an MSPE layer, and one of
    ``kernel_policy='constant'``, whose grid follows the image as the stock model's does, gets no warning.
    """
    if not has_patch_embed(model) or find_patch_embed(model).kernel_policy == 'constant':
        yield
        return
    layer, sizes = find_patch_embed(model), set()
    with layer.register_forward_pre_hook(lambda _, args: sizes.add(tuple(args[0].shape[-2:]))):
        yield
    off = sorted(size for size in sizes if tuple(layer.token_grid(size)) != layer.grid_for(size))
    if is_main_process():
        warn_off_grid(layer, off[:3])
        if off[3:]:
            print(f'warning: {len(off) - 3} more sizes of images leave the base grid', file=sys.stderr)


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
