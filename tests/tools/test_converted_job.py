"""A stock SegFormer checkpoint through the command lines: converted by the config, tuned, swept."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from safetensors import safe_open
from tools_helpers import ROOT, World

from mspe_mm.data.synthetic import write_synthetic

CONFIG = '''
_base_ = {bases}
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
    decode_head=dict(in_channels=[8, 8, 16, 16], channels=16, num_classes=10){mspe})
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root='data', pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
load_from = 'base.pth'
'''
MSPE = ", type='MSPEEncoderDecoder', patch_embed=dict(base_resolution=(64, 64)), tuning=dict()"


@pytest.fixture(scope='module')
def segformer(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp('segformer')
    write_synthetic(folder / 'data', num_train=4, num_val=2, size=(64, 64), seed=0)
    bases = [f'{ROOT}/configs/_base_/{name}.py' for name in (
        'models/segformer_mit-b0_camvid', 'datasets/synthetic', 'schedules/mspe_5e', 'default_runtime')]
    for name, mspe in (('stock.py', ''), ('mspe.py', MSPE)):
        (folder / name).write_text(CONFIG.format(bases=bases, mspe=mspe))
    register_all_modules()
    init_default_scope('mmseg')
    torch.manual_seed(0)
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(folder / 'stock.py').model).state_dict()), folder / 'base.pth')
    world = World(folder)
    world.run('train.py', 'mspe.py')
    return world


def test_tuning_moves_the_kernels_of_the_first_stage_and_nothing_else(segformer):
    base, tuned = (torch.load(segformer.folder / path, weights_only=False)['state_dict']
                   for path in ('base.pth', 'work_dirs/mspe/epoch_1.pth'))
    assert tuned.keys() - base.keys() == {
        f'backbone.layers.0.0.kernels.{k}.{part}' for k in (1, 2, 3) for part in ('weight', 'bias')}
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert all(tuned[name].any() for name in tuned.keys() - base.keys())


def test_the_sweep_takes_the_stock_checkpoint_and_the_adapter(segformer):
    adapter = 'work_dirs/mspe/adapter.safetensors'
    with safe_open(segformer.folder / adapter, 'pt') as file:
        assert json.loads(file.metadata()['kernel_sizes']) == [1, 2, 3, 4]
    segformer.run('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', adapter, '--resolutions', '16', '32',
                  '64', '--out-dir', 'sweep')
    results = json.loads((segformer.folder / 'sweep/results.json').read_text())
    rows = {(row['method'], row['resolution'][0]): row for row in results['rows']}
    assert len(rows) == 5 * 3
    # The stock model has 4 x 4 tokens at 16 px, and reduces them by 8 x 8: it has no figure there, and the sweep goes on.
    assert rows['vanilla', 16]['metrics'] == {}
    assert 'greater than' in rows['vanilla', 16]['failure']    # PyTorch's reason
    assert all('failure' not in row for key, row in rows.items() if key != ('vanilla', 16))
    assert 'vanilla at 16 x 16: the model cannot run' in (segformer.folder / 'sweep/table.md').read_text()
    assert (rows['vanilla', 32]['kernel_size'], rows['vanilla', 32]['token_grid']) == ([4, 4], [8, 8])
    for method in ('flexivit', 'prior', 'mspe'):
        assert (rows[method, 32]['kernel_size'], rows[method, 32]['token_grid']) == ([2, 2], [16, 16])
    assert len({json.dumps(row['metrics']) for (_, height), row in rows.items() if height == 64}) == 1


def test_a_misspelt_key_of_patch_embed_is_named_with_the_nearest(segformer):
    sentence = segformer.fails('train.py', 'mspe.py', '--cfg-options', 'model.patch_embed.kernel_size=[1,4]')
    assert "'kernel_size': did you mean 'kernel_sizes'?" in sentence
