"""Values that hold for the calls inside a ``with`` block, and nowhere else."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar('T')


class CallScope(Generic[T]):
    """A value that a program sets outside of a model's forward pass and that a module inside of the model reads.

    The value belongs to one thread and to one ``with`` block. A module that reads it stores nothing of a call, and calls in
    several threads do not affect each other. It is a ``threading.local``, because ``torch.compile`` cannot read a
    ``ContextVar``.

    Args:
        default: The value outside of every block.
    """

    def __init__(self, default: T) -> None:
        self._default = default
        self._thread = threading.local()

    @property
    def value(self) -> T:
        """The value that holds for the current call."""
        return getattr(self._thread, 'value', self._default)

    @contextmanager
    def set(self, value: T) -> Iterator[None]:
        """Within the context, :attr:`value` is ``value`` for calls of this thread."""
        before = self.value
        self._thread.value = value
        try:
            yield
        finally:
            if before is self._default:
                del self._thread.value    # as it was: code compiled outside of the context is not compiled again
            else:
                self._thread.value = before
