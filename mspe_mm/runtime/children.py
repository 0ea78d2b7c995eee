"""Processes that end with the one that started them."""
from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from .signals import sigterm_as_exit

GRACE = 10
"""Seconds that a process and its children have to end after SIGTERM, before SIGKILL."""

_PR_SET_PDEATHSIG = 1    # Linux: which signal a process gets when its parent ends
_prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None


def run_to_end(command: Sequence[str], output: IO[str]) -> int:
    """Run a command. If this process is stopped, the command and its children end too.

    The command has a process group of its own. SIGTERM, SIGINT or any exception in this process ends the group before this
    process continues. After a SIGKILL of this process Linux ends the command; its children, such as workers that load data,
    notice the end of their parent and end too. On other systems the command survives a SIGKILL of this process.

    Args:
        command: Program and arguments.
        output: File for its standard output and standard error.

    Returns:
        The exit status, negative for the number of a signal.
    """
    parent = os.getpid()

    def follow_parent() -> None:    # in the child, between fork and exec
        if _prctl:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:    # the parent ended before prctl
                os._exit(1)

    with sigterm_as_exit(), subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                                             preexec_fn=follow_parent) as process:
        try:
            return process.wait()
        except BaseException:
            _end_group(process)
            raise


def _end_group(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)    # what is left of the group
