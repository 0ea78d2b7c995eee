"""Checkpoints that survive a full disk or a kill, and finding the newest one."""
from __future__ import annotations

import logging
import re
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from ..errors import InputError
from ..files import replacing
from ..models.checkpoint import UntrustedCheckpointError, read_checkpoint


@register_backend('mspe_safe', force=True)
class SafeLocalBackend(LocalBackend):
    """mmengine's ``LocalBackend``, but a file is written whole or not at all, and removed after its successor is written.

    ``CheckpointHook`` removes the best checkpoint so far before it writes the next: a write that fails would leave none.
    Here the removal waits for the write.
    """

    _to_remove: list[str] = []    # shared: the hook removes through one instance and writes through another

    def put(self, obj: bytes, filepath: str) -> None:
        with replacing(filepath) as temporary:
            super().put(obj, temporary)
        while self._to_remove:
            old = self._to_remove.pop()
            if Path(old).absolute() != Path(filepath).absolute():    # otherwise it has just been written again
                super().remove(old)

    def remove(self, filepath: str) -> None:
        self._to_remove.append(filepath)


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """The newest complete checkpoint of the training in ``work_dir``; None if it has saved none.

    ``last_checkpoint`` is a hint only: after a kill it can be empty or outdated, or name a missing file. The newest
    checkpoint has the highest epoch or iteration. If ``last_checkpoint`` names an existing file, higher numbers count only
    if they were written after that file. A checkpoint that cannot be read is skipped with a warning.

    Raises:
        InputError: If the training has saved checkpoints and none of them can be read.
    """
    note = Path(work_dir) / 'last_checkpoint'
    text = note.read_text().strip() if note.is_file() else ''
    folder = Path(work_dir)
    if Path(text).is_file() or (Path(text).parent.is_dir() and Path(text).parent.name == folder.name):
        folder = Path(text).parent    # CheckpointHook's out_dir, where it has a folder of the same name
    files = sorted((path for path in folder.glob('*.pth') if _step(path) >= 0), key=_step, reverse=True)
    named = folder / Path(text).name if text else None
    if named and named.is_file():    # an older training in the same folder can have left higher numbers
        newer = [path for path in files if _step(path) > _step(named) and path.stat().st_mtime >= named.stat().st_mtime]
        files = [*newer, named, *(path for path in files if _step(path) < _step(named))]
    reasons = []
    for path in files:
        try:
            read_checkpoint(str(path))
        except UntrustedCheckpointError:
            raise
        except InputError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            print_log(f'{reason}; {path} is resumed instead', logger='current', level=logging.WARNING)
        return str(path)
    if reasons or note.is_file():
        raise InputError(f'{work_dir} has no complete checkpoint to resume, and its training has saved some'
                         f'{f" ({reasons[0]})" if reasons else ""}: remove {note} and what is damaged to start again')
    return None


def _step(path: Path) -> int:
    """The epoch or iteration that the name of a checkpoint ends in; -1 if it is no name of ``CheckpointHook``."""
    match = re.fullmatch(r'(?!best_).*_(\d+)\.pth', path.name)
    return int(match[1]) if match else -1
