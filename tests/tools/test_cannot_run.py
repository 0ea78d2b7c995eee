"""A row says 'cannot run' for a size that the model refuses, and never for a bug."""
import json

import pytest

from mspe_mm.seg import MSPEViT

FORWARD = MSPEViT.forward


def sweep(world, out, methods=('vanilla', ), resolutions=(16, ), options=()):
    world.call('eval_multiscale.py', 'mspe.py', 'base.pth', '--resolutions', *resolutions, '--methods', *methods,
               '--out-dir', out, *options)
    return json.loads((world.folder / out / 'results.json').read_text())['rows']


def fails_if(condition, error=RuntimeError):
    """A forward pass that fails where ``condition`` of the images holds; the message is 'injected'."""

    def forward(self, inputs):
        if condition(inputs):
            raise error('injected')
        return FORWARD(self, inputs)
    return forward


def test_a_size_that_the_model_refuses_is_a_row_that_cannot_run_with_the_traceback_in_the_log(world, monkeypatch):
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(lambda inputs: inputs.shape[-1] == 16, AssertionError))
    refused, fits = sweep(world, 'refused_size', resolutions=(16, 64))
    assert (refused['failure'], refused['metrics'], refused['images_per_second']) == ('injected', {}, None)
    assert 'failure' not in fits
    (log, ) = (world.folder / 'refused_size/log').glob('*/*.log')
    assert 'vanilla cannot run at 16 x 16, and runs on the same images at the base resolution' in log.read_text()
    assert 'AssertionError: injected' in log.read_text()


def test_an_image_that_is_enlarged_to_a_refused_grid_is_a_row_that_cannot_run(world, monkeypatch):
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(lambda inputs: inputs.shape[-1] == 32, AssertionError))
    refused, fits = sweep(world, 'refused_grid', ['img_resize'], options=['--token-grid', 2, 4])
    assert (refused['failure'], refused['metrics'], refused['token_grid']) == ('injected', {}, [2, 2])
    assert 'failure' not in fits
    assert 'img_resize at 2 x 2 tokens: the model cannot run (injected)' in (
        world.folder / 'refused_grid/table.md').read_text()


@pytest.mark.parametrize('error', [RuntimeError, ValueError, AssertionError])
def test_a_bug_at_every_size_is_raised(world, monkeypatch, error):
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(lambda inputs: True, error))
    with pytest.raises(error, match='injected'):
        sweep(world, 'bug_everywhere')
    assert not (world.folder / 'bug_everywhere/results.json').exists()


def test_a_bug_after_the_same_size_has_run_is_raised(world, monkeypatch):
    seen = []
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(
        lambda inputs: seen.append(inputs) or (inputs.shape[-1] == 16 and len(seen) > 1)))
    with pytest.raises(RuntimeError, match='injected'):
        sweep(world, 'bug_later')


@pytest.mark.parametrize('error', [NotImplementedError, RecursionError, TypeError, KeyError])
def test_an_error_by_which_no_host_refuses_a_size_is_raised(world, monkeypatch, error):
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(lambda inputs: inputs.shape[-1] == 16, error))
    with pytest.raises(error, match='injected'):
        sweep(world, 'other_error')


def test_a_failure_of_a_method_on_the_base_grid_is_raised(world, monkeypatch):
    monkeypatch.setattr(MSPEViT, 'forward', fails_if(lambda inputs: inputs.shape[-1] == 16))
    with pytest.raises(RuntimeError, match='injected'):
        sweep(world, 'base_grid', methods=['flexivit'])


def test_a_repeated_resolution_or_method_is_refused_before_the_sweep_runs(world):
    for args in (['--resolutions', 16, 64, '16x16'], ['--resolutions', 16, '--methods', 'vanilla', 'vanilla'],
                 ['--token-grid', 4, '4x4', '--methods', 'vanilla']):
        assert 'is given twice' in world.fails('eval_multiscale.py', 'mspe.py', 'base.pth', *args, '--out-dir', 'twice')
    assert not (world.folder / 'twice/results.json').exists()


@pytest.mark.parametrize(('args', 'sentence'), [
    (['--bootstrap', '-1'], "argument --bootstrap: '-1' is not a whole number of at least 0"),
    (['--out-dir', 'base.pth'], '--out-dir base.pth is a file')])
def test_arguments_that_make_no_sense_are_refused(world, capsys, args, sentence):
    with pytest.raises(SystemExit, match='2'):
        world.call('eval_multiscale.py', 'mspe.py', 'base.pth', '--resolutions', 16, '--out-dir', 'x', *args)
    assert sentence in capsys.readouterr().err
