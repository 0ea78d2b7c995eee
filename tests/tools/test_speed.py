"""Compiled, in mixed precision and channels-last: nearly the figures of float32, and runs that are not mixed up."""
import json

import pytest
import torch
from mmengine.utils import digit_version

from mspe_mm.runtime.compilation import LEAST_VERSION

MODEL = ('mspe.py', 'base.pth', '--adapter', 'adapter.safetensors')
SWEEP = ('--resolutions', '16', '64', '--methods', 'vanilla', 'mspe')
COMPILES = digit_version(torch.__version__) >= digit_version(LEAST_VERSION)


def sweep(world, out, *args):
    world.call('eval_multiscale.py', *MODEL, *SWEEP, '--out-dir', out, *args)
    return json.loads((world.folder / out / 'results.json').read_text())


@pytest.fixture(autouse=True)
def _quick_compiler(monkeypatch):
    """Graphs are traced, and run without the minute that compiling real code takes."""
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda module: compile_(module, backend='eager'))


@pytest.fixture(scope='module')
def plain(world):
    return sweep(world, 'plain')


@pytest.mark.parametrize(('out', 'args'), [
    ('bfloat16', ['--amp', '--channels-last']),
    pytest.param('compiled', ['--amp', 'bfloat16', '--compile'],
                 marks=pytest.mark.skipif(not COMPILES, reason=f'needs PyTorch {LEAST_VERSION}')),
])
def test_a_faster_sweep_has_nearly_the_same_figures(world, plain, out, args):
    assert (plain['precision'], plain['compile'], plain['channels_last']) == ('float32', False, False)
    results = sweep(world, out, *args)
    assert results['precision'] == 'bfloat16'
    assert (results['compile'], results['channels_last']) == ('--compile' in args, '--channels-last' in args)
    assert len(results['rows']) == 4
    for row, expected in zip(results['rows'], plain['rows']):
        assert row['metrics']['aAcc'] == pytest.approx(expected['metrics']['aAcc'], abs=0.5)
        assert row['images_per_second'] > 0


def test_a_sweep_is_not_continued_in_another_precision(world, plain):
    assert 'its precision is float32, and this run has bfloat16' in world.fails(
        'eval_multiscale.py', *MODEL, *SWEEP, '--out-dir', 'plain', '--resume', '--amp')


def test_the_test_tool_takes_the_same_arguments(world):
    accuracies = []
    for args in ([], ['--amp', '--channels-last', *(['--compile'] if COMPILES else [])]):
        work_dir = f'tested{len(args)}'
        world.call('test.py', *MODEL, '--work-dir', work_dir, *args)
        (log, ) = (world.folder / work_dir).glob('*/*.json')
        accuracies.append(json.loads(log.read_text())['aAcc'])
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.5)


@pytest.mark.parametrize(('args', 'sentence'), [
    (['--amp', 'float16'], '--amp float16 needs a GPU'),
    pytest.param(['--compile'], f'compiling needs PyTorch {LEAST_VERSION}',
                 marks=pytest.mark.skipif(COMPILES, reason='this PyTorch compiles')),
])
def test_what_this_machine_cannot_do_is_refused(world, args, sentence):
    for tool, more in (('test.py', []), ('eval_multiscale.py', ['--resolutions', '16', '--out-dir', 'refused'])):
        assert sentence in world.fails(tool, *MODEL, *more, *args)
