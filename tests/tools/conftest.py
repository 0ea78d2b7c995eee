"""A small world for the command lines: a data set, a base model trained on it, and its tuned patch embedding."""
from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from mspe_mm.datasets.synthetic import write_synthetic

ROOT = Path(__file__).parents[2]

CONFIG = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(img_size=(64, 64), embed_dims=32, num_layers=2, num_heads=2, out_indices=(1, )),
    decode_head=dict(in_channels=32, channels=32))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
{more}
'''


class World:
    """A folder to run the tools in, as a user does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write_config(self, name: str, filename: str, more: str = '') -> None:
        """A small version of the repository's config ``name``, with ``more`` lines."""
        (self.folder / filename).write_text(CONFIG.format(root=ROOT, name=name, more=more))

    def launch(self, script: str, *args: object) -> subprocess.CompletedProcess:
        """Run a shell script of the tools."""
        return self.command('bash', ROOT / 'tools' / script, *args)

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

    def fails(self, tool: str, *args: object) -> str:
        """Run a tool in this process, quicker; returns the sentence with which it exits."""
        argv, folder = sys.argv, Path.cwd()
        sys.argv = [tool, *map(str, args)]
        os.chdir(self.folder)
        try:
            with pytest.raises(SystemExit) as exit_:
                runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        finally:
            sys.argv = argv
            os.chdir(folder)
        assert isinstance(exit_.value.code, str), exit_.value.code    # a sentence on stderr, exit code 1
        assert exit_.value.code.startswith('error: ')
        assert '\n' not in exit_.value.code
        return exit_.value.code


@pytest.fixture(scope='session')
def world(tmp_path_factory) -> World:
    """``base.py`` and ``mspe.py`` with ``base.pth``, ``adapter.safetensors`` and ``work_dirs`` of both trainings."""
    folder = tmp_path_factory.mktemp('world')
    write_synthetic(folder / 'data', num_train=12, num_val=4, size=(64, 64), seed=0)
    world = World(folder)
    world.write_config('setr_synthetic', 'base.py')
    world.write_config('setr_mspe_synthetic', 'mspe.py', "load_from = 'base.pth'")
    world.run('train.py', 'base.py')
    (folder / 'base.pth').write_bytes((folder / 'work_dirs/base/epoch_2.pth').read_bytes())
    world.run('train.py', 'mspe.py')
    (folder / 'adapter.safetensors').write_bytes((folder / 'work_dirs/mspe/adapter.safetensors').read_bytes())
    return world
