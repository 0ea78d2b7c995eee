"""Checks of the command line's values. Each error is one sentence."""
from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch

from ..errors import InputError
from .models import PATCH


def check_base(base: int) -> None:
    """Raise an InputError if a base resolution is no multiple of the patch size."""
    if base < PATCH or base % PATCH:
        raise InputError(f'the base resolution must be whole patches of {PATCH} px, and {base} is not: try '
                         f'{max(1, round(base / PATCH)) * PATCH}')


def check_resolutions(base: int, resolutions: Sequence[int]) -> None:
    """Raise an InputError if a resolution is no multiple of the base token grid."""
    check_base(base)
    grid = base // PATCH
    for resolution in resolutions:
        if resolution < grid or resolution % grid:
            raise InputError(f'resolution {resolution} is no multiple of {grid}, the side of the token grid of the base '
                             f'resolution {base}: try {max(1, round(resolution / grid)) * grid}')


def check_pyramid(resolutions: Sequence[int]) -> None:
    """Raise an InputError if a resolution is too small for Mask R-CNN's pyramid, which halves the token grid."""
    for resolution in resolutions:
        if resolution < 2 * PATCH:
            raise InputError(f'Mask R-CNN halves the token grid, so it takes images of {2 * PATCH} px at least, and '
                             f'{resolution} is less')


def check_device(device: str, dtype: torch.dtype) -> None:
    """Raise an InputError if the device does not exist, or does not compute in ``dtype``."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f'--device {device} is no device: give cpu, cuda or cuda:0') from error
    if kind not in ('cpu', 'cuda'):
        raise InputError(f'--device {device} cannot be measured on: give cpu, cuda or cuda:0')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise InputError(f'--device {device} needs a GPU, and PyTorch sees none: give --device cpu')
    if kind == 'cpu' and dtype == torch.float16:
        raise InputError('--dtype float16 needs a GPU: give --dtype bfloat16')


def check_host(package: str) -> None:
    """Raise an InputError if the host library of ``'mspe_mm.seg'`` or ``'mspe_mm.det'`` is missing."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise InputError(f'{error}; or choose other --networks') from error


def check_network(network: str, resolutions: Sequence[int]) -> None:
    """Raise an InputError if the host library of ``'setr'`` or ``'mask-rcnn'`` is missing, or a resolution is too small."""
    check_host('mspe_mm.seg' if network == 'setr' else 'mspe_mm.det')
    if network == 'mask-rcnn':
        check_pyramid(resolutions)
