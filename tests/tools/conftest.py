"""A small world for the command lines: a data set, a base model trained on it, and its tuned patch embedding."""
from __future__ import annotations

import pytest
from tools_helpers import World

from mspe_mm.data.synthetic import write_synthetic

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


@pytest.fixture(scope='session')
def world(tmp_path_factory) -> World:
    """Small SETRs: ``base.py`` and ``mspe.py`` with ``base.pth``, ``adapter.safetensors`` and ``work_dirs``."""
    world = World(tmp_path_factory.mktemp('world'), CONFIG)
    write_synthetic(world.folder / 'data', num_train=12, num_val=4, size=(64, 64), seed=0)
    world.write_config('setr_synthetic', 'base.py')
    world.write_config('setr_mspe_5e_synthetic', 'mspe.py', "load_from = 'base.pth'")
    world.train_and_tune()
    return world
