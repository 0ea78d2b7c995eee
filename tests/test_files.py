"""Files are written whole or not at all, reach the disk before they replace another, and leave nothing stale."""
import os

import pytest

from mspe_mm import files
from mspe_mm.files import remove_stale, replacing

DEAD = 2**22 + 1    # above Linux's largest process id


def test_replacing_syncs_the_file_before_it_takes_its_place_and_the_folder_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda descriptor: (done.append(os.readlink(f'/proc/self/fd/{descriptor}')),
                                                         fsync(descriptor)))
    monkeypatch.setattr(os, 'replace', lambda *paths: (done.append('replace'), replace(*paths)))
    with replacing(tmp_path / 'a.txt') as temporary, open(temporary, 'w') as file:
        file.write('new')
    assert done == [str(temporary), 'replace', str(tmp_path)]
    assert (tmp_path / 'a.txt').read_text() == 'new'


def test_replacing_leaves_the_older_file_when_it_cannot_be_synced(tmp_path, monkeypatch):
    (tmp_path / 'a.txt').write_text('old')

    def full(path):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(files, '_sync', full)
    with pytest.raises(OSError, match='No space'), replacing(tmp_path / 'a.txt') as temporary, open(temporary, 'w') as file:
        file.write('new')
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('a.txt', 'old')]


def test_replacing_works_where_folders_cannot_be_synced(tmp_path, monkeypatch):
    sync = files._sync
    monkeypatch.setattr(files, '_sync', lambda path: sync(path) if path.is_file() else os.close(-1))
    with replacing(tmp_path / 'a.txt') as temporary, open(temporary, 'w') as file:
        file.write('new')
    assert (tmp_path / 'a.txt').read_text() == 'new'


def test_remove_stale_takes_the_temporaries_of_dead_processes_alone(tmp_path):
    names = [f'.epoch_1.pth.{DEAD}.tmp', f'.epoch_1.pth.{os.getpid()}.tmp', '.epoch_1.pth.tmp', f'epoch_1.pth.{DEAD}.tmp']
    for name in names:
        (tmp_path / name).touch()
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_replacing_removes_what_a_killed_process_left_of_the_same_file(tmp_path):
    (tmp_path / f'.a[1].txt.{DEAD}.tmp').touch()
    (tmp_path / f'.b.txt.{DEAD}.tmp').touch()
    with replacing(tmp_path / 'a[1].txt') as temporary, open(temporary, 'w') as file:
        file.write('new')
    assert sorted(path.name for path in tmp_path.iterdir()) == [f'.b.txt.{DEAD}.tmp', 'a[1].txt']
