"""Checkpoints that a full disk cannot destroy."""
from __future__ import annotations

from mmengine.fileio import LocalBackend, register_backend

from ..files import replacing


@register_backend('mspe_safe', force=True)
class SafeLocalBackend(LocalBackend):
    """mmengine's local files, except that a file is written whole or not at all, and removed only once its successor is.

    ``CheckpointHook`` removes the oldest checkpoint before it writes the next: with ``max_keep_ckpts=1`` a write that
    fails would leave none. Here the removal waits for the write.
    """

    _to_remove: list[str] = []    # shared: the hook removes through one instance and writes through another

    def put(self, obj: bytes, filepath: str) -> None:
        with replacing(filepath) as temporary:
            super().put(obj, temporary)
        while self._to_remove:
            super().remove(self._to_remove.pop())

    def remove(self, filepath: str) -> None:
        self._to_remove.append(filepath)
