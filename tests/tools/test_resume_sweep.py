"""--resume of a sweep after something has changed."""
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SWEEP = ['mspe.py', 'base.pth', '--adapter', 'resumed.safetensors', '--resolutions', 16, '--methods', 'vanilla', 'mspe',
         '--out-dir', 'to_resume']


def results(world):
    return json.loads((world.folder / 'to_resume/results.json').read_text())


@pytest.fixture(scope='module')
def swept(world):
    """The world with the results of a sweep by ``resumed.safetensors``."""
    shutil.copy(world.folder / 'adapter.safetensors', world.folder / 'resumed.safetensors')
    world.call('eval_multiscale.py', *SWEEP)
    return world


def test_resume_measures_mspe_anew_after_a_new_tuning_into_the_same_file(swept, capsys):
    vanilla, mspe = results(swept)['rows']
    path = swept.folder / 'resumed.safetensors'
    with safe_open(path, 'pt') as file:
        metadata = file.metadata()
    save_file({name: value + torch.randn(value.shape) for name, value in load_file(path).items()}, path, metadata)
    swept.call('eval_multiscale.py', *SWEEP, '--resume')
    again = results(swept)['rows']
    assert again[0] == vanilla    # with its speed: it was not measured again
    assert again[1]['metrics'] != mspe['metrics']
    assert '1 rows of mspe are dropped, they were measured with another adapter' in capsys.readouterr().out


def test_resume_keeps_methods_that_were_not_asked_for_in_file_and_report(swept):
    before = results(swept)['rows']
    swept.call('eval_multiscale.py', *SWEEP[:-3], 'flexivit', *SWEEP[-2:], '--resume')
    after = results(swept)['rows']
    assert [row['method'] for row in after] == ['vanilla', 'mspe', 'flexivit']
    assert after[:2] == before
    assert '| mspe' in (swept.folder / 'to_resume/table.md').read_text()


@pytest.mark.parametrize(('options', 'part'), [
    (['model.backbone.kernel_policy=isotropic'], 'model'), (['test_dataloader.dataset.data_prefix.img_path=images/train',
                                                           'test_dataloader.dataset.data_prefix.seg_map_path=annotations/train'],
                                                          'test_dataloader')])
def test_resume_refuses_rows_of_another_config(swept, options, part):
    before = results(swept)
    sentence = swept.fails('eval_multiscale.py', *SWEEP, '--resume', '--cfg-options', *options)
    assert 'cannot be resumed' in sentence
    assert part in sentence or 'its images is' in sentence
    assert results(swept) == before


def test_resume_refuses_rows_of_other_weights(swept):
    other = torch.load(swept.folder / 'base.pth', weights_only=False)
    other['state_dict']['decode_head.conv_seg.bias'] += 1
    torch.save(other, swept.folder / 'other_weights.pth')
    sentence = swept.fails('eval_multiscale.py', 'mspe.py', 'other_weights.pth', *SWEEP[2:], '--resume')
    assert 'other settings or weights (weights)' in sentence
