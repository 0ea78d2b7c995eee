"""Writing files whole or not at all."""
from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Yield the name of a temporary file beside ``path``; it replaces ``path`` if the block succeeds, else it is removed.

    The new file is on the disk before the old one is replaced, so ``path`` survives a kill or power failure at any moment.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent, path.name)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield str(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        with suppress(OSError):    # some file systems and systems do not sync folders
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: str | Path, name: str | None = None) -> None:
    """Remove temporary files in ``folder`` whose processes were killed on this machine: those for ``name``, or all."""
    for path in Path(folder).glob(f'.{escape(name) if name else "*"}.*.tmp'):
        process = re.search(r'\.(\d+)\.tmp$', path.name)
        if process and not _is_running(int(process[1])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:    # of another user
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
