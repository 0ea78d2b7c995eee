"""Bad input ends a tool with one sentence and exit code 1; a bug still shows its traceback."""
import argparse
import errno
import os
import signal
import sys
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from mspe_mm.errors import InputError
from mspe_mm.files import replacing
from mspe_mm.models import checkpoint
from mspe_mm.runtime import cli


class Bad(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise InputError('image.png cannot be decoded')


def fail(error):
    def main():
        raise error

    return main


def test_bad_input_is_one_sentence():
    with pytest.raises(SystemExit) as exit_:
        cli.run(fail(InputError('checkpoint x.pth does not exist')))
    assert exit_.value.code == 'error: checkpoint x.pth does not exist'


@pytest.mark.parametrize('workers', [0, 1])
def test_the_sentence_of_a_loading_worker_is_the_same(workers):
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda: next(iter(DataLoader(Bad(), num_workers=workers))))
    assert exit_.value.code == 'error: image.png cannot be decoded'


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_with_the_file(code):
    with pytest.raises(SystemExit, match=r'error: .* while writing epoch_2.pth: free some room'):
        cli.run(fail(OSError(code, 'No space', 'epoch_2.pth')))


def test_a_place_that_must_not_be_written_is_named():
    with pytest.raises(SystemExit, match=r'error: Permission denied: out/results\.json'):
        cli.run(fail(PermissionError(errno.EACCES, 'Permission denied', 'out/results.json')))


@pytest.mark.parametrize('error', [ValueError('a bug'), OSError(errno.EBADF, 'a bug')])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error), match='a bug'):
        cli.run(fail(error))


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'does not exist'),
    ('model = dict(', 'cannot be read'),
    ("_base_ = './missing.py'", 'cannot be read'),
    ("custom_imports = dict(imports=['no_such_package'], allow_failed_imports=False)", 'cannot be read'),
    ('lr = 1', 'has no model'),
])
def test_a_bad_config_is_named(tmp_path, content, message):
    path = tmp_path / 'config.py'
    if content is not None:
        path.write_text(content)
    args = argparse.Namespace(config=str(path), cfg_options=None, launcher='none', adapter=None, work_dir=None, local_rank=0)
    with pytest.raises(InputError, match=rf'config {path} {message}'):
        cli.load_config(args)


def test_run_ends_with_143_on_sigterm_and_clears_up(tmp_path):
    def main():
        with replacing(tmp_path / 'results.json') as temporary:
            (tmp_path / temporary).touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_:
        cli.run(main)
    assert exit_.value.code == 143
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before


def test_run_ends_with_1_on_sigint():
    def main():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)    # a job in the background ignores it
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert exit_.value.code == 'interrupted'    # on stderr, with exit code 1


def test_run_trusts_checkpoints_if_the_command_line_says_so(monkeypatch):
    seen = []
    for words in ([], ['--trust-checkpoint'], ['--trust', 'config.py', '--unknown']):
        monkeypatch.setattr(sys, 'argv', ['train.py', *words])
        cli.run(lambda: seen.append(checkpoint._trusting.value))
    assert seen == [False, True, True]
    assert checkpoint._trusting.value is False


def test_run_says_how_a_checkpoint_is_trusted():
    with pytest.raises(SystemExit) as exit_:
        cli.run(fail(checkpoint.UntrustedCheckpointError('checkpoint x.pth needs os.system')))
    assert exit_.value.code == 'error: checkpoint x.pth needs os.system; pass --trust-checkpoint if you trust its source'
