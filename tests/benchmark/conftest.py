"""The benchmark's tool on models that are smaller than its smallest."""
import json
import os
import runpy
import sys
from pathlib import Path

import cv2
import pytest
from python_processes import stop_server

from mspe_mm.benchmark.models import SIZES

TOOL = Path(__file__).parents[2] / 'tools/benchmark.py'


@pytest.fixture(scope='module', autouse=True)
def _own_server():
    """Memory is measured in forks of the forkserver, whose modules and settings are the benchmark's."""
    stop_server()
    yield
    stop_server()


@pytest.fixture
def small(monkeypatch):
    """``tiny`` is of width 24 and depth 4."""
    monkeypatch.setitem(SIZES, 'tiny', (24, 4, 2))


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Runs the command line in a folder of its own; returns the results that it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['tools/benchmark.py', *map(str, args)])
        runpy.run_path(str(TOOL), run_name='__main__')
        folder = Path('work_dirs/benchmark', args[0])
        assert {'results.json', 'table.md', 'figure.png'} <= set(os.listdir(folder))
        results = json.loads((folder / 'results.json').read_text())
        for row in results['rows']:
            assert f'| {row["candidate"]} ' in (folder / 'table.md').read_text()
        assert cv2.imread(str(folder / 'figure.png')).std() > 0
        return results
    return run


@pytest.fixture
def sentence(tool):
    """The sentence with which the command line exits."""

    def fails(*args):
        with pytest.raises(SystemExit) as exit_:
            tool(*args)
        assert isinstance(exit_.value.code, str), exit_.value.code    # on stderr, exit code 1
        assert exit_.value.code.startswith('error: ')
        assert '\n' not in exit_.value.code
        return exit_.value.code
    return fails
