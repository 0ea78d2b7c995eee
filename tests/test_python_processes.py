"""A program that is forked from the server sees what it would see in an interpreter of its own."""
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from python_processes import fork_python

STATE = '''
import json, multiprocessing, os, signal, sys, threading
print(json.dumps(dict(
    argv=sys.argv, name=__name__, folder=os.getcwd(), seen=os.environ.get('SEEN'), threads=threading.active_count(),
    method=multiprocessing.get_start_method(allow_none=True),
    handlers=[str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGXFSZ, signal.SIGCHLD)],
    ours=[name for name in sys.modules if name.startswith('mspe_mm')])))
'''


@pytest.mark.parametrize('as_file', [False, True])
def test_fork_python_gives_a_program_the_state_of_a_new_interpreter(tmp_path, monkeypatch, as_file):
    monkeypatch.setenv('SEEN', 'by the program')
    (tmp_path / 'state.py').write_text(STATE)
    command = [str(tmp_path / 'state.py') if as_file else '-c', *([] if as_file else [STATE]), 'one', '2']
    forked = fork_python(*command, folder=tmp_path)
    fresh = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
    assert forked.stdout == fresh.stdout != ''
    assert (forked.returncode, forked.stderr) == (fresh.returncode, fresh.stderr) == (0, '')


def test_fork_python_obeys_sigint_also_where_tests_run_in_the_background(tmp_path):
    code = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'
    assert fork_python('-c', code, folder=tmp_path).stdout == 'True\n'


def test_fork_python_leaves_no_random_state_to_the_next_program(tmp_path):
    code = 'import numpy, random, torch; print(torch.rand(1), torch.get_num_threads(), numpy.random.rand(), random.random())'
    one, two = (fork_python('-c', code, folder=tmp_path).stdout.split() for _ in range(2))
    assert one[:2] == two[:2]    # PyTorch begins with the same seed in every process, on one thread
    assert one[1] == '1'
    assert one[2] != two[2]    # and the others with one of their own
    assert one[3] != two[3]


@pytest.mark.parametrize('end', [
    'pass', 'sys.exit(3)', "sys.exit('error: a sentence')", 'raise ValueError(5)', 'os.kill(os.getpid(), signal.SIGTERM)',
    'os.kill(os.getpid(), signal.SIGKILL)', 'os._exit(7)', "atexit.register(print, 'at exit')"])
def test_fork_python_ends_as_a_new_interpreter_does(tmp_path, end):
    code = f"import atexit, os, signal, sys; print('printed', flush=True); {end}"
    forked = fork_python('-c', code, folder=tmp_path)
    fresh = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout)
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_fork_python_serves_several_at_once(tmp_path):
    """Each waits for the file of the other."""
    code = ("import pathlib, sys, time; own, other = map(pathlib.Path, sys.argv[1:]); own.touch()\n"
            'while not other.exists(): time.sleep(0.01)')
    with ThreadPoolExecutor(2) as pool:
        done = [*pool.map(lambda names: fork_python('-c', code, *names, folder=tmp_path), ('ab', 'ba'))]
    assert [process.returncode for process in done] == [0, 0]


def test_a_script_that_a_forked_program_starts_is_a_fork_with_its_output_and_exit_code(tmp_path):
    (tmp_path / 'child.py').write_text(
        "import os, sys; print(sys.argv[1:], os.getpgid(0) == os.getpid()); sys.exit('the end')")
    code = ('import os, subprocess, sys\n'
            "with open('log', 'w') as log, subprocess.Popen([sys.executable, 'child.py', 'a'], stdout=log, "
            "stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=lambda: log.write('')) as child:\n"
            '    print(type(child).__name__, child.wait())')
    done = fork_python('-c', code, folder=tmp_path)
    assert done.stdout == 'ForkedPopen 1\n', done.stderr
    assert (tmp_path / 'log').read_text() == "['a'] True\nthe end\n"
