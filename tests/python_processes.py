"""Python programs in processes of their own, without the seconds that a start takes to import the hosts.

A server, :mod:`multiprocessing`'s forkserver, has imported the host libraries and nothing else. Each program is a fork of
it: a fresh interpreter, but for the host libraries in ``sys.modules``. Each process of pytest has one server.
"""
from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import numpy

HOSTS = ['torch', 'torch.distributed', 'matplotlib.pyplot', 'mmengine.runner', 'mmcv.ops', 'mmseg.apis', 'mmseg.engine',
         'mmdet.apis', 'mmdet.engine', 'timm', 'safetensors.torch', 'yapf.yapflib.yapf_api']

_server = multiprocessing.get_context('forkserver')
_fork = multiprocessing.get_context('fork')
_popen = subprocess.Popen


def fork_python(*command: object, folder: Path) -> subprocess.CompletedProcess:
    """What ``subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)`` returns.

    Args:
        *command: A script and its arguments, or ``'-c'``, a program and its arguments.
        folder: The working directory.
    """
    command = [str(part) for part in command]
    with TemporaryDirectory() as temporary:
        printed = [Path(temporary, name) for name in ('out', 'err')]
        process = start_fork(be_python, command, folder, dict(os.environ), *printed)
        process.join()
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in printed))


def start_fork(target: Callable, *args: object) -> multiprocessing.process.BaseProcess:
    """A process of the server that calls ``target`` with ``args``, which are pickled. The first starts the server."""
    _server.set_forkserver_preload(HOSTS)
    process = _server.Process(target=target, args=args)
    process.start()
    return process


def stop_server() -> None:
    """Stop the server: the next process asks for another."""
    forkserver._forkserver._stop()


def be_python(command: Sequence[str], folder: Path, environment: dict, out: Path | int, err: Path | int) -> None:
    """Go on as the Python process of a command; what it raises is for the caller, a process of :mod:`multiprocessing`.

    Python processes that it starts by ``subprocess.Popen`` are forks of it.

    Args:
        command: As :func:`fork_python`.
        folder: The working directory.
        environment: All environment variables.
        out: File or file descriptor to which the standard output goes.
        err: The same for the standard error.
    """
    gc.freeze()    # or every collection copies what has been imported
    multiprocessing.set_start_method(None, force=True)
    numpy.random.seed()    # Python's own generator does so in every fork
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate((out, err), 1):
        os.dup2(file if isinstance(file, int) else os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    subprocess.Popen = _popen_or_fork
    forget_shared()
    format_once()
    try:
        if command[0] == '-c':
            sys.argv = ['-c', *command[2:]]
            exec(compile(command[1], '<string>', 'exec'), {'__name__': '__main__'})
        else:
            sys.argv = [*command]
            runpy.run_path(command[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()    # which a process of multiprocessing leaves out


def forget_shared() -> None:
    """Clear what mmengine keeps once for each process, where one process is several in turn."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer
    for shared in (MessageHub, MMLogger, Visualizer, *Visualizer.__subclasses__()):
        shared._instance_dict.clear()


def format_once() -> None:
    """Have mmengine format a text once for each process: a run asks for that of its config many times, for seconds."""
    from yapf.yapflib import yapf_api
    format_code, known = yapf_api.FormatCode, {}

    def formatted(text: str, **settings: object) -> object:
        if text not in known:
            known[text] = format_code(text, **settings)
        return known[text]
    yapf_api.FormatCode = formatted


def _popen_or_fork(command: object, **settings: object) -> object:
    if isinstance(command, list) and command[0] == sys.executable and str(command[1]).endswith('.py'):
        return ForkedPopen(command, **settings)
    return _popen(command, **settings)


class ForkedPopen:
    """Stands in for ``subprocess.Popen`` of ``[python, script, *args]`` whose output goes to one file.

    Args:
        command: Python, a script and its arguments.
        stdout: File for the output.
        stderr: ``subprocess.STDOUT``.
        start_new_session: Whether the process has a session, and a group, of its own.
        preexec_fn: Called in the process, before the script.
    """

    def __init__(self, command: list[str], stdout: IO, stderr: int, start_new_session: bool = False,
                 preexec_fn: Callable[[], None] = bool) -> None:
        assert stderr == subprocess.STDOUT

        def be_child() -> None:
            if start_new_session:
                os.setsid()
            preexec_fn()
            be_python(command[1:], Path.cwd(), dict(os.environ), stdout.fileno(), stdout.fileno())

        self.args = command
        self.process = _fork.Process(target=be_child)
        self.process.start()
        self.pid = self.process.pid

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.process.exitcode

    def __enter__(self) -> ForkedPopen:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
