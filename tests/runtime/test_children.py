"""A command leaves no process behind when the program that runs it is stopped."""
import os
import signal
import subprocess
import sys
import time

import pytest

from mspe_mm.runtime.children import run_to_end

CHILD = """
import os, subprocess, sys, time
{more}
print(os.getpid(), flush=True)
time.sleep(600)
"""
GRANDCHILD = "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True)"
PARENT = """
import sys
from mspe_mm.runtime.children import run_to_end
with open('log.txt', 'w') as log:
    run_to_end([sys.executable, 'child.py'], log)
"""


def is_running(process):
    try:
        with open(f'/proc/{process}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] not in 'ZX'
    except OSError:
        return False


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def started(tmp_path):
    """Starts a program that runs a command; returns both and the processes of the command."""
    processes = []

    def start(more=''):
        (tmp_path / 'child.py').write_text(CHILD.format(more=more))
        (tmp_path / 'parent.py').write_text(PARENT)
        parent = subprocess.Popen(
            [sys.executable, 'parent.py'], cwd=tmp_path, env=dict(os.environ),
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))    # a job in the background ignores it
        log, count = tmp_path / 'log.txt', 2 if more else 1
        assert eventually(lambda: log.is_file() and len(log.read_text().split()) == count)
        processes.extend(map(int, log.read_text().split()))
        return parent, list(processes)

    yield start
    for process in filter(is_running, processes):
        os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_run_to_end_ends_the_command_and_its_children_on_a_signal(started, number):
    parent, processes = started(GRANDCHILD)
    parent.send_signal(number)
    assert parent.wait(60) != 0
    assert eventually(lambda: not any(map(is_running, processes)))


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a process that its parent was killed')
def test_run_to_end_ends_the_command_after_a_kill(started):
    parent, processes = started()
    parent.kill()
    parent.wait(60)
    assert eventually(lambda: not any(map(is_running, processes)))


def test_run_to_end_returns_the_exit_status_and_appends_the_output(tmp_path):
    with (tmp_path / 'log.txt').open('w') as log:
        assert run_to_end([sys.executable, '-c', 'print(5); raise SystemExit(3)'], log) == 3
    assert (tmp_path / 'log.txt').read_text() == '5\n'
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
