"""Runs of the tools that are killed, quickly: each is a fork of a server that has imported the host libraries."""
from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mmengine.runner.runner
import torch
from python_processes import be_python, start_fork
from tools_helpers import ROOT


class Run:
    """A tool in a process of its own, and of its own group, in ``folder``.

    Args:
        folder: The working directory; what is printed goes to ``log``, by default there.
        tool: Name of the tool.
        *args: Its arguments.
        before: Called in the new process before the tool; pickled, so a function of a module or a partial of one.
        **environment: Environment variables.
    """

    def __init__(self, folder: Path, tool: str, *args: object, before: Callable[[], None] | None = None,
                 log: Path | None = None, **environment: str) -> None:
        self.log = log or folder / 'printed.txt'
        self.log.write_text('')    # there even if the process is killed at once
        command = [str(part) for part in (ROOT / 'tools' / tool, *args)]
        self.process = start_fork(be_tool, command, folder, {**os.environ, **environment}, self.log, before)

    def wait(self) -> int:
        """The exit code; that of a signal is negative."""
        self.process.join()
        return self.process.exitcode

    def printed(self) -> str:
        return self.log.read_text()

    def kill_after(self, seconds: float) -> bool:
        """Kill the process and its children with SIGKILL; returns whether it still ran."""
        self.process.join(seconds)
        if self.process.exitcode is not None:
            return False
        while self.process.exitcode is None:
            with suppress(ProcessLookupError):    # it has no group of its own yet
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.join(0.01)
        return True

    def is_alone(self) -> bool:
        """Whether no child of the process that has ended is left."""
        for _ in range(100):
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)    # a process that has ended is collected by init
        return False


def be_tool(command: list[str], folder: Path, environment: dict, log: Path, before: Callable[[], None] | None) -> None:
    """What the process of a :class:`Run` does."""
    os.setpgid(0, 0)
    printed = os.open(log, os.O_WRONLY)
    if before:
        before()
    mmengine.runner.runner.collect_env = dict    # it asks compilers for their versions, which takes a second
    be_python(command, folder, environment, printed, printed)


def die_at(call: int) -> None:
    """For ``before``: SIGKILL inside the ``call``-th writing of a file, in turns before and after it takes its place."""
    replace, count = os.replace, [0]

    def dying(*args: object) -> None:
        count[0] += 1
        if count[0] == call and call % 2:
            os.killpg(0, signal.SIGKILL)
        replace(*args)
        if count[0] == call:
            os.killpg(0, signal.SIGKILL)
    os.replace = dying


def equal(one: object, two: object) -> bool:
    """Whether two nests of tensors are the same, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


def resumed_epoch(printed: str) -> int:
    """The epoch that a training went on after; 0 for one that began."""
    found = re.search(r'resumed epoch: (\d+)', printed)
    return int(found[1]) if found else 0
