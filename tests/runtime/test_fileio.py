"""A checkpoint is never lost to a write that fails."""
import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend

from mspe_mm.errors import InputError
from mspe_mm.runtime import fileio


@pytest.fixture
def backend():
    yield get_file_backend(backend_args=dict(backend='mspe_safe'))
    fileio.SafeLocalBackend._to_remove.clear()


@pytest.fixture
def full_disk(monkeypatch):
    def put(self, obj, filepath):
        with open(filepath, 'wb') as file:
            file.write(obj[:1])
        raise OSError(28, 'No space left on device', filepath)

    monkeypatch.setattr(fileio.LocalBackend, 'put', put)


def test_a_file_is_written(backend, tmp_path):
    backend.put(b'weights', str(tmp_path / 'sub/a.pth'))
    assert (tmp_path / 'sub/a.pth').read_bytes() == b'weights'
    assert [path.name for path in (tmp_path / 'sub').iterdir()] == ['a.pth']


def test_a_failed_write_leaves_the_older_file_and_nothing_else(backend, tmp_path, full_disk):
    (tmp_path / 'a.pth').write_bytes(b'older')
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'newer', str(tmp_path / 'a.pth'))
    assert (tmp_path / 'a.pth').read_bytes() == b'older'
    assert len(list(tmp_path.iterdir())) == 1


def test_a_removal_waits_for_the_next_write(backend, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'1')
    backend.remove(str(tmp_path / 'epoch_1.pth'))
    assert (tmp_path / 'epoch_1.pth').exists()
    get_file_backend(backend_args=dict(backend='mspe_safe')).put(b'2', str(tmp_path / 'epoch_2.pth'))
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_2.pth']


def test_a_failed_write_keeps_what_was_to_be_removed(backend, tmp_path, full_disk):
    (tmp_path / 'epoch_1.pth').write_bytes(b'1')
    backend.remove(str(tmp_path / 'epoch_1.pth'))
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'2', str(tmp_path / 'epoch_2.pth'))
    assert (tmp_path / 'epoch_1.pth').read_bytes() == b'1'


def test_a_file_that_is_removed_and_written_again_is_kept(backend, tmp_path):
    path = str(tmp_path / 'best.pth')
    backend.put(b'1', path)
    backend.remove(path)
    backend.put(b'2', path)
    assert (tmp_path / 'best.pth').read_bytes() == b'2'


# -- latest_checkpoint: last_checkpoint is a hint ----------------------------------------------------------------------


@pytest.fixture
def work_dir(tmp_path):
    """Checkpoints of epochs 1 to 3, and last_checkpoint that names the last."""
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
    note(tmp_path, 3)
    return tmp_path


def save(folder, epoch, age=0):
    path = folder / f'epoch_{epoch}.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(epoch=epoch)), path)
    os.utime(path, (1e9 + epoch - age, 1e9 + epoch - age))


def note(folder, epoch):
    (folder / 'last_checkpoint').write_text(str(folder / f'epoch_{epoch}.pth'))


def name_of(folder):
    return Path(fileio.latest_checkpoint(folder)).name


def test_latest_checkpoint_is_what_last_checkpoint_names(work_dir):
    assert name_of(work_dir) == 'epoch_3.pth'


@pytest.mark.parametrize('text', ['', '\n', 'gone.pth', '/nowhere/epoch_9.pth', 'work_dirs/moved/epoch_1.pth/x'])
def test_latest_checkpoint_does_not_need_last_checkpoint(work_dir, text):
    (work_dir / 'last_checkpoint').write_text(text)
    assert name_of(work_dir) == 'epoch_3.pth'
    (work_dir / 'last_checkpoint').unlink()
    assert name_of(work_dir) == 'epoch_3.pth'


def test_latest_checkpoint_is_newer_than_what_last_checkpoint_names(work_dir):
    note(work_dir, 2)    # killed between the two writes
    assert name_of(work_dir) == 'epoch_3.pth'


def test_latest_checkpoint_is_not_one_of_an_older_training(work_dir):
    save(work_dir, 9, age=1000)
    assert name_of(work_dir) == 'epoch_3.pth'


def test_latest_checkpoint_counts_numbers_and_leaves_the_best_out(work_dir):
    save(work_dir, 10)
    (work_dir / 'epoch_10.pth').rename(work_dir / 'best_mIoU_epoch_10.pth')
    save(work_dir, 12)
    (work_dir / 'last_checkpoint').unlink()
    assert name_of(work_dir) == 'epoch_12.pth'


def test_latest_checkpoint_looks_where_checkpoint_hook_was_told_to_save(work_dir, tmp_path):
    out_dir = tmp_path / 'elsewhere' / tmp_path.name
    out_dir.mkdir(parents=True)
    for epoch in (4, 5):
        save(out_dir, epoch)
    (work_dir / 'last_checkpoint').write_text(str(out_dir / 'epoch_5.pth'))
    assert fileio.latest_checkpoint(work_dir) == str(out_dir / 'epoch_5.pth')
    (out_dir / 'epoch_5.pth').unlink()
    assert fileio.latest_checkpoint(work_dir) == str(out_dir / 'epoch_4.pth')


@pytest.mark.parametrize('length', [0, 10, 400])
def test_latest_checkpoint_passes_over_what_is_truncated(work_dir, length, caplog):
    path = work_dir / 'epoch_3.pth'
    path.write_bytes(path.read_bytes()[:length])
    assert name_of(work_dir) == 'epoch_2.pth'


def test_latest_checkpoint_of_a_folder_without_any_is_none(tmp_path):
    assert fileio.latest_checkpoint(tmp_path) is None
    assert fileio.latest_checkpoint(tmp_path / 'nowhere') is None


def test_latest_checkpoint_refuses_a_training_whose_checkpoints_are_lost(work_dir):
    for epoch in (1, 2, 3):
        (work_dir / f'epoch_{epoch}.pth').unlink()
    with pytest.raises(InputError, match='has no complete checkpoint to resume'):
        fileio.latest_checkpoint(work_dir)
    (work_dir / 'last_checkpoint').unlink()
    (work_dir / 'epoch_1.pth').touch()
    with pytest.raises(InputError, match=r'epoch_1\.pth cannot be read'):
        fileio.latest_checkpoint(work_dir)
