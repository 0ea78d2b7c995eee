"""A checkpoint is never lost to a write that fails."""
import pytest
from mmengine.fileio import get_file_backend

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
