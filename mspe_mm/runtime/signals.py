"""Signals that let a program clear up before it ends."""
from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """Within the context, SIGTERM raises SystemExit with code 143, as shells count: ``finally`` blocks remove what is
    unfinished, and processes that load data end with their loader. In threads other than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():    # Python handles signals in the main thread only
        yield
        return
    owner, code = os.getpid(), 128 + signal.SIGTERM

    def end(*_: object) -> None:
        if os.getpid() != owner:    # a loading process, which has inherited the handler, has nothing to clear up
            os._exit(code)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)    # a second signal does not interrupt the clearing up
        sys.exit(code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
