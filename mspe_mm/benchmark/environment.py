"""Versions and hardware of a measurement."""
from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path

import torch

from ..version import __version__

PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'timm', 'numpy')


def environment(device: str) -> dict[str, object]:
    """Versions of the packages, the processor and, if ``device`` is one, the GPU."""
    found = {'mspe_mm': __version__, 'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.import_module(name).__version__
        except ImportError:
            found[name] = None
    found.update(cpu=_cpu(), cpu_cores=os.cpu_count(), system=f'{platform.system()} {platform.machine()}')
    if torch.device(device).type == 'cuda':
        found.update(gpu=torch.cuda.get_device_name(device), cuda=torch.version.cuda)
    return found


def _cpu() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), platform.processor())
