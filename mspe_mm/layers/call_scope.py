"""Values that hold for the calls inside a ``with`` block, and nowhere else."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar('T')


class CallScope(Generic[T]):
    """A value that code outside a host's forward pass hands to code deep inside it.

    It belongs to one thread and to one ``with`` block. So a module that reads it holds no state of a call, and calls in
    several threads do not disturb each other. ``threading.local`` instead of a ``ContextVar``: ``torch.compile`` reads only
    the former.

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
            self._thread.value = before
