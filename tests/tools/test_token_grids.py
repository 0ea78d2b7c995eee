"""Random token grids on a segmentor: tuned and compared by the command lines."""
import json

import pytest
import torch
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file
from tools_helpers import ROOT

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.evaluation.methods import FROM_FILES, METHODS
from mspe_mm.tuning.factory import build_objective
from mspe_mm.tuning.token_grid_objective import TokenGridObjective, tileable_size


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_a_segmentor_is_tuned_for_token_grids_and_swept_over_them(world):
    world.write_config('setr_mspe_5e_synthetic', 'grids.py',
                       "model['tuning'] = dict(_delete_=True, token_grids=[8, (16, 8)])\nload_from = 'base.pth'")
    world.call('train.py', 'grids.py')
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'work_dirs/grids/epoch_2.pth')
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert any(tuned[f'backbone.patch_embed.kernels.{k}.weight'].abs().max() > 0 for k in (4, 8))
    world.call('eval_multiscale.py', 'grids.py', 'work_dirs/grids/epoch_2.pth', '--token-grid', '4', '8', '16x8',
               '--resolutions', '32', '--out-dir', 'grids')
    rows = {(row['method'], *row['token_grid']): row
            for row in json.loads((world.folder / 'grids/results.json').read_text())['rows']}
    assert set(rows) == {(method, *grid) for method in METHODS if method not in FROM_FILES
                         for grid in ((4, 4), (8, 8), (16, 8))}
    assert (rows['mspe', 16, 8]['resolution'], rows['mspe', 16, 8]['kernel_size']) == ([32, 32], [2, 4])
    assert (rows['vanilla', 16, 8]['resolution'], rows['vanilla', 16, 8]['kernel_size']) == ([256, 128], [16, 16])
    enlarged = rows['img_resize', 16, 8]
    assert (enlarged['resolution'], enlarged['kernel_size']) == ([32, 32], [16, 16])    # 32 x 32 px are resized to 256 x 128
    assert rows['mspe', 4, 4]['gflops'] < rows['mspe', 8, 8]['gflops'] < rows['mspe', 16, 8]['gflops']
    assert (world.folder / 'grids/trade_off.png').stat().st_size > 10_000


@pytest.mark.parametrize(('name', 'base'), [
    ('vit-b_grids_imagenet', (224, 224)), ('flexivit-b_imagenet', (240, 240)), ('setr_grids_camvid', (240, 320))])
def test_configs_of_token_grids_are_complete(name, base):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    kernel_sizes = (cfg.model.get('backbone') or cfg.model.patch_embed).kernel_sizes
    layer = MultiScalePatchEmbed(embed_dims=1, grid_size=(base[0] // 16, base[1] // 16), kernel_sizes=kernel_sizes)
    objective = TokenGridObjective(**cfg.model.tuning)
    assert objective.trainable_grids(layer, base) == objective.token_grids    # none is drawn in vain
    assert all(tileable_size(base, grid) == base for grid in objective.token_grids)
    assert set(cfg.model.tuning) <= {'token_grids', 'freeze'}
    assert (dict(type='AdapterHook') in cfg.custom_hooks) is cfg.model.tuning.get('freeze', True)
    assert cfg.get('find_unused_parameters', False) is cfg.model.tuning.get('freeze', True)


@pytest.fixture(scope='module')
def tuned(world):
    """``several.py``, which tunes kernels for two grids by mixed passes and a teacher, and its ``several.safetensors``."""
    world.write_config('setr_mspe_5e_synthetic', 'several.py', (
        "model['backbone'].update(token_grids=[2])\n"
        "model['tuning'] = dict(_delete_=True, type='MixedResolutionObjective', objective='distill')\n"
        "load_from = 'base.pth'\ntrain_cfg = dict(max_epochs=4, val_interval=9)"))
    world.call('train.py', 'several.py')
    (world.folder / 'several.safetensors').write_bytes((world.folder / 'work_dirs/several/adapter.safetensors').read_bytes())
    return 'several.py', 'base.pth'


def test_kernels_of_another_grid_are_tuned_tested_and_predict(world, tuned):
    tensors = load_file(world.folder / 'several.safetensors')
    assert {name.partition('.')[0] for name in tensors} == {'4', '8', '12', '4g2x2', '8g2x2', '12g2x2', '16g2x2'}
    assert all(value.abs().max() > 0 for name, value in tensors.items() if name in ('8.weight', '8g2x2.weight'))

    def labels(folder, *options):
        world.call('predict.py', *tuned, 'data/images/val', '--adapter', 'several.safetensors', '--out-dir', folder,
                   '--resolution', '32', *options)
        return [path.read_bytes() for path in sorted((world.folder / folder / 'labels').iterdir())]

    assert labels('grid2', '--token-grid', '2') != labels('grid4') == labels('grid4x4', '--token-grid', '4x4')
    world.call('test.py', *tuned, '--adapter', 'several.safetensors', '--token-grid', '2', '--out', 'tested2')
    world.call('test.py', *tuned, '--adapter', 'several.safetensors', '--out', 'tested4')
    found = [[path.read_bytes() for path in sorted((world.folder / folder).iterdir())] for folder in ('tested2', 'tested4')]
    assert len(found[0]) == len(found[1]) == 4
    assert found[0] != found[1]


@pytest.mark.parametrize('tool', ['test.py', 'predict.py'])
def test_a_grid_that_is_too_large_is_refused(world, tuned, tool):
    more = ('data/images/val', '--out-dir', 'none') if tool == 'predict.py' else ()
    assert 'the token grid 40 x 40 has 1600 tokens' in world.fails(tool, *tuned, *more, '--token-grid', '40')


def test_budgets_are_chosen_written_into_the_adapter_and_taken_in_prediction(world, tuned, capsys):
    def choose(*options):
        world.call('choose_budgets.py', *tuned, '--adapter', 'several.safetensors', '--out', 'chosen.safetensors',
                   '--resolutions', 16, 32, *options)
        with safe_open(world.folder / 'chosen.safetensors', 'pt') as file:
            return json.loads(file.metadata()['budgets']), capsys.readouterr().out

    assert choose('--min-metric', 0.01)[0] == [[16, 16, 2, 2], [32, 32, 2, 2]]
    before, after = (load_file(world.folder / f'{name}.safetensors') for name in ('several', 'chosen'))
    assert all(torch.equal(before[name], after[name]) for name in before)

    def labels(folder, adapter, *options):
        world.call('predict.py', *tuned, 'data/images/val', '--adapter', adapter, '--out-dir', folder, *options)
        return [path.read_bytes() for path in sorted((world.folder / folder / 'labels').iterdir())]

    small = ('--resolution', 32)
    forced = labels('forced', 'several.safetensors', *small, '--token-grid', 2)
    assert labels('itself', 'chosen.safetensors', *small) == forced
    assert labels('whole', 'chosen.safetensors') == labels('base', 'several.safetensors')

    world.call('eval_multiscale.py', *tuned, '--adapter', 'chosen.safetensors', '--methods', 'mspe', '--resolutions', 32, 64,
               '--out-dir', 'with_budgets')
    rows = json.loads((world.folder / 'with_budgets/results.json').read_text())['rows']
    assert [row['token_grid'] for row in rows] == [[2, 2], [4, 4]]
    whole = rows[1]['metrics']['mIoU']
    found, printed = choose('--min-metric', 1)
    kept = rows[0]['metrics']['mIoU'] >= whole
    assert found[1] == [32, 32, *((2, 2) if kept else (4, 4))]
    assert '100.0%' in printed


def test_choosing_budgets_refuses_what_it_cannot_do(world, tuned):
    out = ('--out', 'none.safetensors')
    assert 'give --adapter' in world.fails('choose_budgets.py', *tuned, *out)
    several = ('--adapter', 'several.safetensors')
    assert 'no grid of less than 16 tokens' in world.fails('choose_budgets.py', *tuned, *several, *out, '--token-grid', 4, 8)
    assert 'has no val_dataloader' in world.fails('choose_budgets.py', *tuned, *several, *out, '--cfg-options',
                                                  'val_dataloader=None', 'val_evaluator=None', 'val_cfg=None')


@pytest.mark.parametrize(('name', 'kernels'), [
    ('setr_budgets_camvid', {(15, 20): [0, 1, 2, 3, 4, 5, 6], (9, 12): [0, 1, 2, 3, 4, 5, 6, 7]}),
    ('vitdet_budgets_synthetic', {(12, 12): [0, 1, 2, 3, 4, 5, 6], (8, 8): [0, 1, 2, 3, 4, 5, 6, 7]})])
def test_the_recipe_of_budgets_is_complete(name, kernels):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    settings = {key: cfg.model.backbone[key] for key in ('kernel_sizes', 'context', 'token_grids')}
    layer = MultiScalePatchEmbed(embed_dims=1, grid_size=next(iter(kernels)), **settings)
    assert layer.own_kernels() == kernels
    assert build_objective(cfg.model.tuning).objective == 'features'
    assert cfg.find_unused_parameters    # a step uses the kernels of one grid
    assert dict(type='AdapterHook') in cfg.custom_hooks
    assert 'momentum' not in cfg.optim_wrapper.optimizer
