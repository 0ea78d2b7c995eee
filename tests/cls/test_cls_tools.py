"""Train, tune, stop, resume, test, merge and sweep a classifier, by the command lines that users type."""
import json
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image
from stock_helpers import TRAIN_AND_TEST, added_by_tools, assert_python_runs
from tools_helpers import ROOT, validated

import mspe_mm.cls  # noqa: F401
from mspe_mm.evaluation.methods import FROM_FILES, METHODS

SWEPT = [method for method in METHODS if method not in FROM_FILES]
TUNED = ('base.pth', '--adapter', 'adapter.safetensors')


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def measure(world, *args):
    """Top-1 that test.py measures."""
    shutil.rmtree(world.folder / 'tested', ignore_errors=True)
    world.call('test.py', *args, '--work-dir', 'tested')
    (log, ) = (world.folder / 'tested').glob('*/*.json')
    return json.loads(log.read_text())['top-1']


def test_tuning_moves_the_kernels_and_nothing_else(world):
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'work_dirs/mspe/epoch_2.pth')
    kernels = {name for name in tuned if '.kernels.' in name}
    assert {name: value for name, value in tuned.items() if name not in kernels}.keys() == base.keys()
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert {name.split('.kernels.')[1] for name in kernels} == {f'{k}.{part}' for k in (2, 4) for part in ('weight', 'bias')}
    assert all(tuned[name].abs().max() > 0 for name in kernels)


def test_a_folder_of_images_tunes_the_kernels_and_nothing_else(world):
    world.write_config('vit_mspe_synthetic_cls', 'distill.py', """
model['patch_embed'] = dict(kernel_sizes=(2, 4, 8))
model['tuning'] = dict(objective='distill')
load_from = 'base.pth'
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = []
train_dataloader['dataset'] = dict(_delete_=True, type='ImageFolder', data_root='data/train', pipeline=train_pipeline)
""")
    world.call('train.py', 'distill.py')
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'work_dirs/distill/epoch_1.pth')
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert all(value.any() for name, value in tuned.items() if '.kernels.' in name)
    sentence = world.fails('train.py', 'distill.py', '--cfg-options', 'model.tuning.objective=both')
    assert "the training data has no annotations, and tuning.objective='both' needs them" in sentence


@pytest.fixture(scope='module')
def swept(world):
    world.call('eval_multiscale.py', 'mspe.py', *TUNED, '--resolutions', '8', '12', '16x24', '32', '64', '--out-dir',
               'sweep', '--bootstrap', '50')
    return json.loads((world.folder / 'sweep/results.json').read_text())


def test_a_sweep_has_every_row_with_its_figures(world, swept):
    rows = {(row['method'], *row['resolution']): row for row in swept['rows']}
    assert set(rows) == {(method, *size) for method in SWEPT for size in ((8, 8), (12, 12), (16, 24), (32, 32), (64, 64))}
    for row in rows.values():
        assert 0 <= row['metrics']['top-1'] <= row['metrics']['top-5'] <= 100
        low, high = row['intervals']['top-1']
        assert low <= row['metrics']['top-1'] <= high
    assert (rows['vanilla', 16, 24]['token_grid'], rows['vanilla', 16, 24]['kernel_size']) == ([2, 3], [8, 8])
    assert (rows['mspe', 16, 24]['token_grid'], rows['mspe', 16, 24]['kernel_size']) == ([4, 4], [4, 6])
    while_tuning = validated(world.folder / 'work_dirs/mspe')
    assert rows['mspe', 8, 8]['metrics']['top-1'] == pytest.approx(while_tuning['top-1@1/4'], abs=0.01)
    assert '| mspe' in (world.folder / 'sweep/table.md').read_text()
    assert (world.folder / 'sweep/curve.png').stat().st_size > 10_000


def test_bfloat16_has_nearly_the_same_figures(world, swept):
    world.call('eval_multiscale.py', 'mspe.py', *TUNED, '--resolutions', '12', '--methods', 'vanilla', 'mspe', '--amp',
               '--channels-last', '--out-dir', 'bfloat16')
    expected = {row['method']: row['metrics']['top-1'] for row in swept['rows'] if row['resolution'] == [12, 12]}
    for row in json.loads((world.folder / 'bfloat16/results.json').read_text())['rows']:
        assert row['metrics']['top-1'] == pytest.approx(expected[row['method']], abs=2.5)    # two of 80 images
        assert row['images_per_second'] > 0


def test_all_methods_are_the_stock_model_at_the_base_resolution(world, swept):
    measured = measure(world, 'base.py', 'base.pth')
    assert [row['metrics']['top-1'] for row in swept['rows'] if row['resolution'] == [32, 32]] == [measured] * len(SWEPT)
    assert measured > 40    # it has learned: chance is 12.5


def test_tuning_improves_over_the_stock_model_at_low_resolution(swept):
    top1 = {(row['method'], row['resolution'][0]): row['metrics']['top-1'] for row in swept['rows']}
    for resolution in (8, 12):
        assert top1['mspe', resolution] > top1['vanilla', resolution] + 10


def test_training_stops_and_resumes(world):
    options = ['--work-dir', 'resumed']
    world.call('train.py', 'mspe.py', *options, '--cfg-options', 'train_cfg.max_epochs=1')
    assert [path.name for path in (world.folder / 'resumed').glob('*.pth')] == ['epoch_1.pth']
    second = world.run('train.py', 'mspe.py', *options, '--resume')
    assert 'resumed epoch: 1' in second.stdout
    assert set(re.findall(r'Epoch\(train\) +\[(\d)\]', second.stdout)) == {'2'}
    assert [path.name for path in (world.folder / 'resumed').glob('*.pth')] == ['epoch_2.pth']


def test_a_merged_checkpoint_is_the_base_with_its_adapter(world):
    world.call('merge_adapter.py', 'mspe.py', *TUNED, '--out', 'merged.pth')
    tuned, merged = weights(world.folder / 'work_dirs/mspe/epoch_2.pth'), weights(world.folder / 'merged.pth')
    assert tuned.keys() == merged.keys()
    assert all(torch.equal(tuned[name], merged[name]) for name in tuned)


def test_a_checkpoint_of_timm_is_taken_as_it_is(world):
    prefix = 'backbone.'
    timms = {name.removeprefix(prefix): value for name, value in weights(world.folder / 'base.pth').items()}
    torch.save(timms, world.folder / 'timm.pth')
    small = ['--cfg-options', 'test_dataloader.dataset.pipeline.1.img_size=8']
    own = measure(world, 'mspe.py', *TUNED, '--out', 'out', *small)
    assert own == measure(world, 'mspe.py', 'timm.pth', '--adapter', 'adapter.safetensors', *small)
    # By timm's own loading, without a CHECKPOINT argument.
    assert own == measure(world, 'mspe.py', '--adapter', 'adapter.safetensors', *small, 'model.checkpoint=timm.pth')
    assert own != measure(world, 'base.py', 'base.pth')
    world.call('merge_adapter.py', 'mspe.py', '--adapter', 'adapter.safetensors', '--out', 'merged_timm.pth',
               '--cfg-options', 'model.checkpoint=timm.pth')
    merged = weights(world.folder / 'merged_timm.pth')
    assert all(torch.equal(merged[f'{prefix}{name}'], value) for name, value in timms.items())
    predictions = pickle.loads((world.folder / 'out/predictions.pkl').read_bytes())
    right = [int(sample['pred_score'].argmax()) == sample['gt_label'] for sample in predictions]
    assert 100 * sum(right) / len(right) == own


def test_everything_runs_without_openmmlabs_libraries(world):
    """In a process where mmcv, mmseg and mmdet cannot be imported."""
    world.write_config('vit_mspe_synthetic_cls', 'degraded.py',
                       "model['patch_embed'] = dict(kernel_sizes=(2, 4, 8))\n"
                       "by_jpeg = [dict(type='CompressJPEG', quality=50)]")
    program = ("import sys, runpy; sys.modules.update(mmcv=None, mmseg=None, mmdet=None); sys.argv[0:1] = []; "
               "runpy.run_path(sys.argv[0], run_name='__main__')")
    for tool, args in (('train.py', ['mspe.py', '--work-dir', 'alone', '--cfg-options', 'train_cfg.max_epochs=1']),
                       ('calibrate.py', ['degraded.py', 'base.pth', '--images', 'data/val', '--num-images', '4',
                                         '--resolutions', '8', '--degrade', 'by_jpeg', '--out', 'alone.safetensors']),
                       ('eval_multiscale.py', ['degraded.py', *TUNED, '--calibrated', 'alone.safetensors', '--degrade',
                                               'by_jpeg', '--methods', 'calibrated', 'mspe', '--resolutions', '8',
                                               '--out-dir', 'alone'])):
        world.command(sys.executable, '-c', program, ROOT / 'tools' / tool, *args)
    rows = json.loads((world.folder / 'alone/results.json').read_text())['rows']
    assert {row['method'] for row in rows} == {'calibrated', 'mspe'}


PVT = dict(embed_dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), num_classes=8)


def test_overlapping_patches_are_tuned_and_swept_from_a_checkpoint_of_timm(world):
    torch.manual_seed(0)
    torch.save(timm.create_model('pvt_v2_b0', **PVT).state_dict(), world.folder / 'pvt.pth')
    world.write_config('pvtv2-b3_mspe_imagenet', 'pvt.py', f"""
model.update(timm_name='pvt_v2_b0', pretrained=False, model_kwargs={PVT}, patch_embed=dict(base_resolution=64))
load_from = 'pvt.pth'
train_cfg = dict(max_epochs=1, val_interval=1)""")
    world.call('train.py', 'pvt.py')
    base, tuned = torch.load(world.folder / 'pvt.pth'), weights(world.folder / 'work_dirs/pvt/epoch_1.pth')
    assert all(torch.equal(tuned[f'backbone.{name}'], value) for name, value in base.items())
    kernels = {name: value for name, value in tuned.items() if '.kernels.' in name}
    assert {name: value.shape[-1] for name, value in kernels.items() if name.endswith('weight')} == {
        f'backbone.patch_embed.kernels.{k}.weight': size for k, size in ((1, 3), (2, 5), (3, 7))}
    assert tuned.keys() == kernels.keys() | {f'backbone.{name}' for name in base}
    assert all(value.any() for value in kernels.values())
    world.call('eval_multiscale.py', 'pvt.py', 'pvt.pth', '--adapter', 'work_dirs/pvt/adapter.safetensors',
               '--resolutions', '32', '64', '--out-dir', 'pvt')
    rows = {(row['method'], row['resolution'][0]): row
            for row in json.loads((world.folder / 'pvt/results.json').read_text())['rows']}
    assert set(rows) == {(method, size) for method in SWEPT for size in (32, 64)}
    assert len({json.dumps(row['metrics']) for (_, size), row in rows.items() if size == 64}) == 1
    assert (rows['vanilla', 32]['token_grid'], rows['mspe', 32]['token_grid']) == ([8, 8], [16, 16])


def test_a_missing_timm_is_named():
    program = 'import sys; sys.modules.update(timm=None); import mspe_mm.cls'
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "mspe_mm.cls needs timm and mmengine, and 'timm' is missing: install mspe_mm[cls]" in done.stderr


def test_bad_models_are_named(world):
    assert "has no model 'vit_tinny_patch16_224': did you mean" in world.fails(
        'train.py', 'mspe.py', '--cfg-options', 'model.timm_name=vit_tinny_patch16_224')
    assert "'kernel_size': did you mean 'kernel_sizes'?" in world.fails(
        'train.py', 'mspe.py', '--cfg-options', 'model.patch_embed.kernel_size=[2,8]')
    assert 'of another shape (backbone.head.weight' in world.fails(
        'train.py', 'mspe.py', '--cfg-options', 'model.model_kwargs.num_classes=7')
    assert 'the head of the model has 7 classes, and the data set has 8' in world.fails(
        'train.py', 'base.py', '--cfg-options', 'model.model_kwargs.num_classes=7')
    torch.save({name: value for name, value in weights(world.folder / 'base.pth').items() if 'head' not in name},
               world.folder / 'headless.pth')
    assert '2 missing (backbone.head.weight, backbone.head.bias)' in world.fails('test.py', 'mspe.py', 'headless.pth')
    assert 'the model of mspe.py has no trained weights of its own: give a CHECKPOINT' in world.fails(
        'eval_multiscale.py', 'mspe.py', '--resolutions', '8', '--out-dir', 'x')
    assert 'predictions of a classifier are not painted' in world.fails('test.py', 'mspe.py', 'base.pth', '--show')


@pytest.fixture
def broken(world, tmp_path):
    """A copy of the data and the options that use it."""
    copy = tmp_path / 'data'
    shutil.copytree(world.folder / 'data', copy)
    return copy, ['--cfg-options', f'train_dataloader.dataset.data_root={copy}', f'val_dataloader.dataset.data_root={copy}']


def test_bad_data_are_named(world, broken):
    copy, options = broken
    first = sorted((copy / 'train/fine box').iterdir())[0]
    first.write_bytes(first.read_bytes()[:50])
    assert re.search(rf'{first} cannot be decoded \(.*\)', world.fails('train.py', 'base.py', *options))
    shutil.rmtree(copy / 'val/fine box')
    assert "training and validation data have other classes or another order of them (only one has 'fine box')" in (
        world.fails('train.py', 'base.py', *options))
    shutil.rmtree(copy / 'train')
    (copy / 'train').mkdir()
    assert f'there are no images in class folders of {copy}/train' in world.fails('train.py', 'base.py', *options)
    Image.new('RGB', (4, 4)).save(copy / 'train/stray.png')
    assert f'{copy}/train has images that are in no class folder' in world.fails('train.py', 'base.py', *options)


@pytest.mark.parametrize('name', ['vit-b_mspe_imagenet', 'deit3-b_mspe_imagenet', 'pvtv2-b3_mspe_imagenet'])
def test_imagenet_configs_have_the_papers_recipe(name):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    assert cfg.model.type == 'MSPEClassifier'
    assert cfg.model.pretrained is True
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (5, 64)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4)
    assert dict(type='AdapterHook') in cfg.custom_hooks
    cfg.model.pretrained = False    # the weights cannot be had here
    layer = MODELS.build(cfg.model).mspe_layer
    assert layer.base_resolution == (224, 224)
    pairs = [(layer.geometry.kernel(k), k) for k in layer.kernel_sizes]
    assert pairs == ([(3, 1), (5, 2), (7, 3), (7, 4)] if 'pvt' in name else [(k, k) for k in (4, 8, 12, 16)])


def test_token_grids_are_tuned_and_their_trade_off_drawn(world):
    world.write_config('vit_mspe_synthetic_cls', 'grids.py',
                       "model.update(patch_embed=dict(kernel_sizes=(2, 4, 8)), "
                       "tuning=dict(_delete_=True, token_grids=[8, 16]))\n"
                       "load_from = 'base.pth'\ntrain_cfg = dict(max_epochs=1, val_interval=1)\nparam_scheduler = []")
    world.call('train.py', 'grids.py')
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'work_dirs/grids/epoch_1.pth')
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert all(tuned[f'backbone.patch_embed.kernels.{k}.weight'].abs().max() > 0 for k in (2, 4))
    world.call('eval_multiscale.py', 'grids.py', 'work_dirs/grids/epoch_1.pth', '--token-grid', '2', '4', '6', '8x4',
               '--out-dir', 'budgets')
    results = json.loads((world.folder / 'budgets/results.json').read_text())
    rows = {(row['method'], *row['token_grid']): row for row in results['rows']}
    grids = ((2, 2), (4, 4), (6, 6), (8, 4))
    assert set(rows) == {(method, *grid) for method in SWEPT for grid in grids}
    assert (rows['mspe', 8, 4]['kernel_size'], rows['mspe', 8, 4]['resolution']) == ([4, 8], [32, 32])
    assert (rows['mspe', 6, 6]['kernel_size'], rows['mspe', 6, 6]['resolution']) == ([6, 6], [32, 32])
    assert (rows['vanilla', 8, 4]['kernel_size'], rows['vanilla', 8, 4]['resolution']) == ([8, 8], [64, 32])
    assert (rows['img_resize', 8, 4]['kernel_size'], rows['img_resize', 8, 4]['resolution']) == ([8, 8], [32, 32])
    for grid in grids:    # from the base resolution, both resize the image to patches of 8 px
        enlarged, vanilla = rows[('img_resize', *grid)], rows[('vanilla', *grid)]
        assert all(enlarged[key] == vanilla[key] for key in ('metrics', 'gflops'))
    # Two blocks of width 48 after the embedding, by hand.
    tokens, dim = 4 * 8 + 1, 48
    block = tokens * dim * 12 * dim + 2 * tokens**2 * dim
    assert rows['mspe', 8, 4]['gflops'] * 1e9 == pytest.approx(2 * (32 * 3 * 4 * 8 * dim + 2 * block + 8 * dim))
    assert len({rows[method, 4, 4]['metrics']['top-1'] for method in ('vanilla', 'img_resize', 'flexivit', 'mspe')}) == 1
    assert (world.folder / 'budgets/trade_off.png').stat().st_size > 10_000
    assert 'GFLOP' in (world.folder / 'budgets/table.md').read_text()
    # A second call keeps the rows.
    world.call('eval_multiscale.py', 'grids.py', 'work_dirs/grids/epoch_1.pth', '--token-grid', '2', '4', '6', '8x4',
               '--out-dir', 'budgets', '--resume')
    assert json.loads((world.folder / 'budgets/results.json').read_text()) == results


@pytest.mark.parametrize(('args', 'sentence'), [
    ([], '--resolutions or --token-grid must be given'),
    (['--token-grid', '0'], "'0' is not a token grid"),
    (['--token-grid', '4', '--resolutions', '16', '32'], '--token-grid takes one resolution'),
    (['--token-grid', '4', '--methods', 'finetuned'], '--token-grid has no finetuned'),
])
def test_bad_token_grids_are_refused(world, args, sentence, capsys):
    with pytest.raises(AssertionError, match='2'):    # argparse exits with code 2, and a sentence on stderr
        world.fails('eval_multiscale.py', 'mspe.py', *TUNED, *args, '--out-dir', 'x')
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_dumped_config_trains_and_tests_by_the_stock_runner(world):
    dumped = world.folder / 'work_dirs/mspe/mspe.py'
    assert added_by_tools(dumped) == []
    assert_python_runs(TRAIN_AND_TEST, world.folder, dumped)    # images of another size than the base would be refused
    assert (world.folder / 'stock/adapter.safetensors').is_file()
