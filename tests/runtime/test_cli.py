"""Bad input ends a tool with one sentence and exit code 1; a bug still shows its traceback."""
import argparse
import errno

import pytest
from torch.utils.data import DataLoader, Dataset

from mspe_mm.errors import InputError
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
