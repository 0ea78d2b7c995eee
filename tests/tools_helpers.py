"""A folder to run the tools in, as a user does."""
from __future__ import annotations

import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from python_processes import forget_shared, fork_python

ROOT = Path(__file__).parents[1]


def tail(done: subprocess.CompletedProcess) -> str:
    """The end of what a process has printed."""
    return f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'


def validated(folder: Path) -> dict:
    """The metrics of the last validation at low resolutions in a work dir."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in logs[-1].read_text().splitlines() if '@' in line][-1]


class World:
    """Runs the tools of the repository in ``folder``.

    Args:
        folder: Where they run.
        template: Config by which :meth:`write_config` makes a recipe small, with ``{root}``, ``{name}`` and ``{more}``.
    """

    def __init__(self, folder: Path, template: str = '') -> None:
        self.folder, self.template = folder, template

    def write_config(self, name: str, filename: str, more: str = '') -> None:
        """A small version of the repository's config ``name``, with ``more`` lines."""
        (self.folder / filename).write_text(self.template.format(root=ROOT, name=name, more=more))

    def train_and_tune(self) -> None:
        """Train ``base.py`` and tune ``mspe.py``: leaves ``base.pth``, ``adapter.safetensors`` and ``work_dirs`` of both."""
        self.call('train.py', 'base.py')
        last = (self.folder / 'work_dirs/base/last_checkpoint').read_text()
        shutil.copy(self.folder / last, self.folder / 'base.pth')
        self.call('train.py', 'mspe.py')
        shutil.copy(self.folder / 'work_dirs/mspe/adapter.safetensors', self.folder)

    def launch(self, script: str, *args: object) -> subprocess.CompletedProcess:
        """Run a shell script of the tools, on a port that nobody uses."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        return self.command('env', f'PORT={port}', 'bash', ROOT / 'tools' / script, *args)

    def run(self, tool: str, *args: object, check: bool = True) -> subprocess.CompletedProcess:
        """Run a tool in a process of its own, by :func:`python_processes.fork_python`."""
        done = fork_python(ROOT / 'tools' / tool, *args, folder=self.folder)
        assert not check or done.returncode == 0, tail(done)
        return done

    def start(self, tool: str, *args: object, check: bool = True, limit: int | None = None) -> subprocess.CompletedProcess:
        """Run a tool in a new interpreter, slower; ``limit`` is the largest file in bytes that it may write."""
        prefix = ['prlimit', f'--fsize={limit}'] if limit else []
        return self.command(*prefix, sys.executable, ROOT / 'tools' / tool, *args, check=check)

    def command(self, *args: object, check: bool = True) -> subprocess.CompletedProcess:
        """Run any program."""
        bin_ = Path(sys.executable).parent
        environment = {**os.environ, 'PATH': f'{bin_}:{os.environ["PATH"]}'}
        done = subprocess.run([*map(str, args)], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, tail(done)
        return done

    def call(self, tool: str, *args: object) -> None:
        """Run a tool in this process, quicker."""
        argv, folder = sys.argv, Path.cwd()
        sys.argv = [tool, *map(str, args)]
        os.chdir(self.folder)
        forget_shared()
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        finally:
            sys.argv = argv
            os.chdir(folder)

    def fails(self, tool: str, *args: object) -> str:
        """Run a tool in this process; returns the sentence with which it exits."""
        with pytest.raises(SystemExit) as exit_:
            self.call(tool, *args)
        assert isinstance(exit_.value.code, str), exit_.value.code    # a sentence on stderr, exit code 1
        assert exit_.value.code.startswith('error: ')
        assert '\n' not in exit_.value.code
        return exit_.value.code
