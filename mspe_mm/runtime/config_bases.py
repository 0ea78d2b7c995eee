"""``_base_ = 'mspe_mm::setr_mspe_ade20k.py'``: the configs of this package as bases of others.

mmengine has such names for the packages on a list of its own, and gives their types a scope. Types of this package live in
the scopes of the hosts. So a name that begins with ``mspe_mm::`` is read as the path of a file, once this module is
imported: all command lines do so, and ``mspe_mm.seg``, ``mspe_mm.det`` and ``mspe_mm.cls``.
"""
from __future__ import annotations

from mmengine.config import Config

from ..errors import InputError
from ..shipped import CONFIGS

PREFIX = 'mspe_mm::'


def config_path(name: str) -> str:
    """The path of a config; of one of this package where ``name`` begins with ``mspe_mm::``.

    Raises:
        InputError: If this package has no such config.
    """
    if not name.startswith(PREFIX):
        return name
    path = CONFIGS / name[len(PREFIX):]
    if not path.is_file():
        raise InputError(f'there is no config {name}: the configs of this package are in {CONFIGS}')
    return str(path)


_hosts_path = Config._get_cfg_path


def _base_path(name: str, filename: str) -> tuple[str, str | None]:
    return (config_path(name), None) if name.startswith(PREFIX) else _hosts_path(name, filename)


Config._get_cfg_path = staticmethod(_base_path)
