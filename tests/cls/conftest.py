"""A small world of classifiers: class folders, a base model trained on them, and its tuned patch embedding."""
from __future__ import annotations

import pytest
from tools_helpers import World

from mspe_mm.data.synthetic import write_synthetic_folders

# 32 px are 4 patches of 8: a tenth of the arithmetic of the repository's 64 px.
CONFIG = '''
_base_ = '{root}/configs/{name}.py'
model = dict(model_kwargs=dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=2))
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', is_training=True, scale=(0.8, 1), color_jitter=None, interpolation='bilinear'),
    dict(type='PackImage'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
test_dataloader = val_dataloader
{more}
'''


@pytest.fixture(scope='session')
def world(tmp_path_factory) -> World:
    """Small classifiers: ``base.py`` and ``mspe.py`` with ``base.pth``, ``adapter.safetensors`` and ``work_dirs``."""
    world = World(tmp_path_factory.mktemp('world'), CONFIG)
    write_synthetic_folders(world.folder / 'data', num_train=320, num_val=80, size=(32, 32), seed=0)
    world.write_config('vit_synthetic_cls', 'base.py', 'train_cfg = dict(max_epochs=12, val_interval=12)\n'
                       'param_scheduler = []\ndefault_hooks = dict(checkpoint=dict(interval=12))')
    world.write_config('vit_mspe_synthetic_cls', 'mspe.py',
                       "model['patch_embed'] = dict(kernel_sizes=(2, 4, 8))\nload_from = 'base.pth'\n"
                       'train_cfg = dict(max_epochs=2, val_interval=2)\nparam_scheduler = []')
    world.train_and_tune()
    return world
