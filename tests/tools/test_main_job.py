"""Train, tune, stop, resume, test, merge and sweep, by the command lines that users type."""
import json

import pytest
import torch
from safetensors import safe_open

METRICS = {'aAcc', 'mIoU', 'mAcc', 'mFscore', 'mPrecision', 'mRecall'}


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_tuning_moves_the_kernels_and_nothing_else(world):
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'work_dirs/mspe/epoch_2.pth')
    kernels = {name for name in tuned if '.kernels.' in name}
    assert set(tuned) - kernels == set(base)
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    assert {name.split('.kernels.')[1] for name in kernels} == {f'{k}.{part}' for k in (4, 8, 12)
                                                               for part in ('weight', 'bias')}
    assert all(tuned[name].abs().max() > 0 for name in kernels)


def test_the_adapter_holds_the_kernels_alone(world):
    tuned = weights(world.folder / 'work_dirs/mspe/epoch_2.pth')
    with safe_open(world.folder / 'adapter.safetensors', 'pt') as adapter:
        assert all(torch.equal(adapter.get_tensor(name), tuned[f'backbone.patch_embed.kernels.{name}'])
                   for name in adapter.keys())    # noqa: SIM118
        assert len(adapter.keys()) == 6
        metadata = adapter.metadata()
    assert json.loads(metadata['base_resolution']) == [64, 64]
    assert json.loads(metadata['kernel_sizes']) == [4, 8, 12, 16]


def test_training_stops_and_resumes(world):
    first = world.run('train.py', 'mspe.py', '--work-dir', 'resumed', '--cfg-options', 'train_cfg.max_epochs=1')
    assert 'Saving checkpoint at 1 epochs' in first.stdout
    second = world.run('train.py', 'mspe.py', '--work-dir', 'resumed', '--resume')
    assert 'resumed epoch: 1' in second.stdout
    assert 'Epoch(train)   [1]' not in second.stdout
    assert 'Saving checkpoint at 2 epochs' in second.stdout
    assert sorted(path.name for path in (world.folder / 'resumed').glob('*.pth')) == ['epoch_2.pth']    # max_keep_ckpts=1


def metrics_of(output):
    line = [line for line in output.splitlines() if 'Epoch(test)' in line and 'mIoU' in line][-1]
    return dict(zip(*[iter(line.split('aAcc:')[1].split('data_time')[0].replace(':', '').split()[1:])] * 2))


def test_a_merged_checkpoint_is_the_base_with_its_adapter(world):
    world.run('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--out', 'merged.pth')
    tuned, merged = weights(world.folder / 'work_dirs/mspe/epoch_2.pth'), weights(world.folder / 'merged.pth')
    assert tuned.keys() == merged.keys()
    assert all(torch.equal(tuned[name], merged[name]) for name in tuned)
    small = ['--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(16,16)']
    by_adapter = world.run('test.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', *small).stdout
    by_merged = world.run('test.py', 'mspe.py', 'merged.pth', *small).stdout
    untuned = world.run('test.py', 'mspe.py', 'base.pth', *small).stdout
    assert metrics_of(by_adapter) == metrics_of(by_merged) != metrics_of(untuned)


@pytest.fixture(scope='module')
def swept(world):
    done = world.run('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', '16',
                     '32x48', '64', '--out-dir', 'sweep', '--bootstrap', '20')
    return done, json.loads((world.folder / 'sweep/results.json').read_text())


def test_a_sweep_has_every_row_with_its_figures(swept):
    _, results = swept
    assert results['reference_resolution'] == [64, 64]
    assert (results['config'], results['checkpoint']) == ('mspe.py', 'base.pth')
    rows = {(row['method'], tuple(row['resolution'])): row for row in results['rows']}
    assert set(rows) == {(method, size) for method in ('vanilla', 'img_resize', 'flexivit', 'prior', 'mspe')
                         for size in ((16, 16), (32, 48), (64, 64))}
    for row in rows.values():
        assert set(row['metrics']) >= METRICS
        assert row['images_per_second'] > 0
        low, high = row['intervals']['mIoU']
        assert low <= high
    assert (rows['vanilla', (32, 48)]['token_grid'], rows['vanilla', (32, 48)]['kernel_size']) == ([2, 3], [16, 16])
    assert (rows['img_resize', (16, 16)]['token_grid'], rows['img_resize', (16, 16)]['kernel_size']) == ([4, 4], [16, 16])
    assert (rows['mspe', (32, 48)]['token_grid'], rows['mspe', (32, 48)]['kernel_size']) == ([4, 4], [8, 12])


def test_all_methods_agree_at_the_base_resolution(swept):
    base = [row['metrics'] for row in swept[1]['rows'] if row['resolution'] == [64, 64]]
    assert len(base) == 5
    assert all(metrics == base[0] for metrics in base)


def test_a_sweep_prints_a_table_and_writes_a_figure(world, swept):
    assert '| flexivit' in swept[0].stdout
    assert (world.folder / 'sweep/curve.png').stat().st_size > 0
    assert '| mspe' in (world.folder / 'sweep/table.md').read_text()


def test_a_sweep_continues_with_the_rows_that_are_missing(world, swept):
    path = world.folder / 'again/results.json'
    path.parent.mkdir()
    results = dict(swept[1], rows=swept[1]['rows'][:11])
    results['rows'][0] = dict(results['rows'][0], images_per_second=12345.)
    path.write_text(json.dumps(results))
    world.run('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', '16',
              '32x48', '64', '--out-dir', 'again', '--bootstrap', '20', '--resume')
    rows = json.loads(path.read_text())['rows']
    assert rows[:11] == results['rows']
    assert rows[11]['metrics'] == swept[1]['rows'][11]['metrics']


def test_two_processes_tune_and_sweep_as_one_does(world, swept, monkeypatch):
    world.launch('dist_train.sh', 'mspe.py', 2, '--work-dir', 'dist', '--cfg-options', 'train_cfg.max_epochs=1')
    base, tuned = weights(world.folder / 'base.pth'), weights(world.folder / 'dist/epoch_1.pth')
    assert all(torch.equal(base[name], tuned[name]) for name in base)
    monkeypatch.setenv('TOOL', 'eval_multiscale.py')
    world.launch('dist_test.sh', 'mspe.py', 'base.pth', 2, '--adapter', 'adapter.safetensors', '--resolutions', '16',
                 '--methods', 'mspe', '--out-dir', 'by_two')
    (row, ) = json.loads((world.folder / 'by_two/results.json').read_text())['rows']
    (alone, ) = [row for row in swept[1]['rows'] if (row['method'], row['resolution']) == ('mspe', [16, 16])]
    assert row['metrics'] == alone['metrics']


def test_processes_with_fewer_images_than_kernels_tune_as_one_does(world):
    """Kernels that no image of a process has drawn get no gradient there."""
    world.write_config('setr_mspe_synthetic', 'mixed.py', (
        "load_from = 'base.pth'\ntrain_cfg = dict(max_epochs=1, val_interval=9)\n"
        "model['tuning'] = dict(objective='distill')"))
    world.run('train.py', 'mixed.py', '--work-dir', 'one', '--cfg-options', 'train_dataloader.batch_size=4')
    world.launch('dist_train.sh', 'mixed.py', 2, '--work-dir', 'two', '--cfg-options', 'train_dataloader.batch_size=2')
    one, two = (weights(world.folder / name / 'epoch_1.pth') for name in ('one', 'two'))
    kernels = [name for name in one if '.kernels.' in name]
    assert any(one[name].any() for name in kernels)
    for name in kernels:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_a_full_disk_leaves_the_previous_checkpoint(world):
    world.run('train.py', 'mspe.py', '--work-dir', 'full', '--cfg-options', 'train_cfg.max_epochs=1')
    done = world.start('train.py', 'mspe.py', '--work-dir', 'full', '--resume', check=False, limit=100_000)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: File too large while writing')
    assert 'Traceback' not in done.stderr
    assert [path.name for path in (world.folder / 'full').glob('*epoch*')] == ['epoch_1.pth']
    again = world.run('train.py', 'mspe.py', '--work-dir', 'full', '--resume')
    assert 'resumed epoch: 1' in again.stdout
