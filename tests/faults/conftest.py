"""A small world for faults: data, a base checkpoint and the configs that tune it. Long trials run with -m faults only."""
from __future__ import annotations

from pathlib import Path

import pytest
from tools_helpers import World

from mspe_mm.data.synthetic import write_synthetic

CONFIG = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    data_preprocessor=dict(size=(32, 32)),
    backbone=dict(img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, )),
    decode_head=dict(in_channels=16, channels=16))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
visualizer = dict(vis_backends=[])
{more}
'''
PLAN = '''
base = 'ablated.py'
seeds = (0, 1)
resolutions = [16]
references = ['flexivit']
images = 'data/images/train'
variants = dict(default=dict(), calibrated={'init': 'calibrated', 'num_images': 4})
'''
KERNELS = "model['backbone'].update(kernel_sizes=(2, 4, 8))\n"
ABLATED = "load_from = 'base.pth'\ntrain_cfg = dict(max_epochs=1)\nparam_scheduler = []\n"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long trials out, unless they are asked for: another -m must not bring them in."""
    if 'faults' not in (config.getoption('markexpr') or ''):
        long = [item for item in items if item.get_closest_marker('faults')]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope='session')
def ground(tmp_path_factory) -> Path:
    """A folder with ``data``, ``base.pth``, ``adapter.safetensors``, ``base.py``, ``mspe.py`` and ``plan.py``."""
    world = World(tmp_path_factory.mktemp('faults'), CONFIG)
    write_synthetic(world.folder / 'data', num_train=12, num_val=4, size=(32, 32), seed=0)
    world.write_config('setr_synthetic', 'base.py')
    world.write_config('setr_mspe_5e_synthetic', 'mspe.py', KERNELS + "load_from = 'base.pth'")
    world.write_config('setr_mspe_5e_synthetic', 'ablated.py', KERNELS + ABLATED)
    (world.folder / 'plan.py').write_text(PLAN)
    world.train_and_tune()
    return world.folder
