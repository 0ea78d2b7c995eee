"""A folder to run the tools in, as a user does."""
from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

ROOT = Path(__file__).parents[1]


def forget_shared() -> None:
    """Clear what mmengine keeps once for each process: this one runs many tools."""
    for shared in (MessageHub, MMLogger, Visualizer, *Visualizer.__subclasses__()):
        shared._instance_dict.clear()


def validated(folder: Path) -> dict:
    """The metrics of the last validation at low resolutions in a work dir."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in logs[-1].read_text().splitlines() if '@' in line][-1]


class World:
    """Runs the tools of the repository in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def launch(self, script: str, *args: object) -> subprocess.CompletedProcess:
        """Run a shell script of the tools, on a port that nobody uses."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        return self.command('env', f'PORT={port}', 'bash', ROOT / 'tools' / script, *args)

    def run(self, tool: str, *args: object, check: bool = True, limit: int | None = None) -> subprocess.CompletedProcess:
        """Run a tool in a process of its own; ``limit`` is the largest file in bytes that it may write."""
        return self.command(sys.executable, str(ROOT / 'tools' / tool), *args, check=check, limit=limit)

    def command(self, *args: object, check: bool = True, limit: int | None = None) -> subprocess.CompletedProcess:
        prefix = ['prlimit', f'--fsize={limit}'] if limit else []
        bin_ = Path(sys.executable).parent
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': f'{bin_}:{os.environ["PATH"]}'}
        done = subprocess.run([*prefix, *map(str, args)], cwd=self.folder, env=environment, capture_output=True, text=True)
        assert not check or done.returncode == 0, f'{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
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
