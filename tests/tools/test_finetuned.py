"""Training everything beside tuning the patch embedding: trained and swept by the command lines."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from safetensors import safe_open
from tools_helpers import ROOT

import mspe_mm.seg  # noqa: F401
from mspe_mm.core import MultiScalePatchEmbed

FINETUNE = """
model['backbone'].update(kernel_sizes=(16, ), kernel_policy='constant')
model.update(tuning=None, resolutions=[32, 64])
load_from = 'base.pth'
strict_load = True
custom_hooks = []"""


@pytest.fixture(scope='module')
def finetuned(world):
    """The checkpoint, trained on from the base."""
    world.write_config('setr_mspe_5e_synthetic', 'finetune.py', FINETUNE)
    world.call('train.py', 'finetune.py')
    return torch.load(world.folder / 'work_dirs/finetune/epoch_2.pth', weights_only=False)


def test_everything_trains_in_the_stock_architecture(world, finetuned):
    base = torch.load(world.folder / 'base.pth', weights_only=False)['state_dict']
    assert finetuned['state_dict'].keys() == base.keys()
    moved = {name for name, value in finetuned['state_dict'].items() if not torch.equal(value, base[name])}
    assert {'backbone.patch_embed.projection.weight', 'backbone.pos_embed', 'decode_head.conv_seg.weight'} <= moved
    logged = finetuned['message_hub']['log_scalars']
    assert {'train/r32x32.decode.loss_ce', 'train/r64x64.decode.loss_ce'} <= set(logged)


def test_a_sweep_has_it_beside_the_tuned_patch_embedding_with_the_costs_of_both(world, finetuned):
    path = 'work_dirs/finetune/epoch_2.pth'
    world.call('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--finetuned', path,
               '--resolutions', '32', '--methods', 'finetuned', 'vanilla', 'mspe', '--out-dir', 'finetuned')
    results = json.loads((world.folder / 'finetuned/results.json').read_text())
    rows = {row['method']: row for row in results['rows']}
    assert list(rows) == ['finetuned', 'vanilla', 'mspe']
    assert results['finetuned'] == path
    assert (rows['finetuned']['token_grid'], rows['mspe']['token_grid']) == ([2, 2], [4, 4])
    assert rows['finetuned']['metrics'] != rows['vanilla']['metrics']
    # The same checkpoint by itself, on images of that size.
    world.call('eval_multiscale.py', 'finetune.py', path, '--resolutions', '32', '--methods', 'vanilla', '--out-dir',
               'alone')
    (alone, ) = json.loads((world.folder / 'alone/results.json').read_text())['rows']
    assert alone['metrics'] == rows['finetuned']['metrics']

    with safe_open(world.folder / 'adapter.safetensors', 'pt') as file:
        kernels = sum(file.get_tensor(name).numel() for name in file.keys())    # noqa: SIM118
    everything = sum(value.numel() for name, value in finetuned['state_dict'].items() if 'num_batches' not in name
                     and 'running' not in name)
    assert {method: row['trained_parameters'] for method, row in rows.items()} == dict(
        vanilla=0, finetuned=everything, mspe=kernels)
    assert set(results['training_seconds']) == {'finetuned', 'mspe'}
    assert all(seconds > 0 for seconds in results['training_seconds'].values())
    assert f'{everything:,}' in (world.folder / 'finetuned/table.md').read_text()


def test_what_does_not_fit_is_named(world, finetuned):
    assert 'needs --finetuned CHECKPOINT' in world.fails(
        'eval_multiscale.py', 'mspe.py', 'base.pth', '--resolutions', '32', '--methods', 'finetuned', '--out-dir', 'x')
    torch.save(dict(state_dict={'a.weight': torch.ones(1)}), world.folder / 'alien.pth')
    assert 'alien.pth is not of this model' in world.fails(
        'eval_multiscale.py', 'mspe.py', 'base.pth', '--finetuned', 'alien.pth', '--resolutions', '32', '--out-dir', 'x')
    assert 'tuning trains the patch kernels and resolutions everything' in world.fails(
        'train.py', 'mspe.py', '--cfg-options', 'model.resolutions=[32]')


def test_the_recipe_trains_the_stock_architecture_at_the_native_resolutions_of_its_peer():
    init_default_scope('mmseg')
    base, peer, cfg = (Config.fromfile(ROOT / f'configs/setr_{name}camvid.py') for name in ('', 'mspe_5e_', 'finetune_'))
    model = MODELS.build(cfg.model)
    assert model.state_dict().keys() == MODELS.build(base.model).state_dict().keys()
    assert all(parameter.requires_grad for parameter in model.parameters())
    layer = MODELS.build(peer.model).mspe_layer
    assert model.full_training.resolutions == [(k * 15, k * 20) for k in layer.kernel_sizes]
    assert cfg.max_epochs == peer.max_epochs
    assert cfg.load_from == peer.load_from
    assert not any(isinstance(module, MultiScalePatchEmbed) and module.kernels for module in model.modules())
    assert cfg.custom_hooks == []
