"""Runs of the tools that are killed, quickly: each is a fork of this process, which has imported everything."""
from __future__ import annotations

import gc
import multiprocessing.process
import multiprocessing.util
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mmengine.config.config
import mmengine.runner.runner
import torch
from tools_helpers import ROOT, forget_shared


class Run:
    """A tool in a process of its own, and of its own group, in ``folder``.

    Args:
        folder: The working directory; what is printed goes to ``log``, by default there.
        tool: Name of the tool.
        *args: Its arguments.
        before: Called in the new process before the tool.
    """

    def __init__(self, folder: Path, tool: str, *args: object, before: Callable[[], None] | None = None,
                 log: Path | None = None) -> None:
        self.log = log or folder / 'printed.txt'
        gc.freeze()    # or every collection in the fork copies what has been imported
        self.pid = os.fork()
        if self.pid:
            with suppress(OSError):
                os.setpgid(self.pid, self.pid)    # here and there: whoever comes first
            return
        try:
            os.setpgid(0, 0)
            printed = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            run_here(folder, tool, args, printed, before)
        finally:
            os._exit(99)

    def wait(self) -> int:
        """The exit code; that of a signal is negative."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def printed(self) -> str:
        return self.log.read_text()

    def kill_after(self, seconds: float) -> bool:
        """Kill the process and its children with SIGKILL; returns whether it still ran."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return False
            time.sleep(0.002)
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        return True

    def is_alone(self) -> bool:
        """Whether no child of the process that has ended is left."""
        for _ in range(100):
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)    # a process that has ended is collected by init
        return False


def run_here(folder: Path, tool: str, args: tuple, printed: int, before: Callable[[], None] | None) -> None:
    """Be a tool, and exit."""
    for stream in (1, 2):
        os.dup2(printed, stream)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', buffering=1), os.fdopen(2, 'w', buffering=1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
    os.chdir(folder)
    sys.argv = [tool, *map(str, args)]
    forget_shared()
    multiprocessing.process._children.clear()    # those of the process that was forked
    multiprocessing.util._finalizer_registry.clear()
    subprocess.Popen = _popen
    mmengine.runner.runner.collect_env = dict    # it asks compilers for their versions, which takes a second
    mmengine.config.config.FormatCode = lambda text, **_: (text, True)    # configs need not be pretty, which takes another
    code = 0
    try:
        if before:
            before()
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1 if exit_.code else 0
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    multiprocessing.util._exit_function()    # as at the end of a process
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_real_popen = subprocess.Popen


def _popen(command: object, **settings: object) -> object:
    python_script = isinstance(command, list) and command[0] == sys.executable and str(command[1]).endswith('.py')
    return ForkedPopen(command, **settings) if python_script else _real_popen(command, **settings)


class ForkedPopen:
    """Stands in for ``subprocess.Popen`` of ``[python, tool, *args]``: a fork, not a new interpreter."""

    def __init__(self, command: list, stdout: object = None, preexec_fn: Callable | None = None,
                 start_new_session: bool = False, **_: object) -> None:
        self.args, self.returncode = command, None
        tool, *args = command[1:]
        self.pid = os.fork()
        if not self.pid:
            try:
                if start_new_session:
                    os.setsid()
                if preexec_fn:
                    preexec_fn()
                run_here(Path.cwd(), Path(tool).name, args, stdout.fileno() if stdout else 1, None)
            finally:
                os._exit(99)

    def poll(self) -> int | None:
        return self.wait(options=os.WNOHANG)

    def wait(self, timeout: float | None = None, options: int = 0) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def communicate(self, *_: object, **__: object) -> tuple[None, None]:
        self.wait()
        return None, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> ForkedPopen:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def die_at(call: int) -> Callable[[], None]:
    """For ``before``: SIGKILL inside the ``call``-th writing of a file, in turns before and after it takes its place."""
    def before() -> None:
        replace, count = os.replace, [0]

        def dying(*args: object) -> None:
            count[0] += 1
            if count[0] == call and call % 2:
                os.killpg(0, signal.SIGKILL)
            replace(*args)
            if count[0] == call:
                os.killpg(0, signal.SIGKILL)
        os.replace = dying
    return before


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
