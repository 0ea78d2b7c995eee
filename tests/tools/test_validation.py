"""Validation at low resolutions while tuning: the figures are rows of the sweep."""
import json

import pytest
import torch
from tools_helpers import validated

from mspe_mm.models.adapter import read_adapter


def test_validation_gives_the_figures_of_the_sweep(world):
    found = validated(world.folder / 'work_dirs/mspe')
    world.call('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--methods', 'mspe',
               '--resolutions', '16', '32', '--out-dir', 'validated')
    rows = json.loads((world.folder / 'validated/results.json').read_text())['rows']
    for row, share in zip(rows, ('1/4', '1/2')):
        assert found[f'mIoU@{share}'] == pytest.approx(row['metrics']['mIoU'], abs=0.01)    # the host rounds
    assert 'mIoU' not in found


@pytest.mark.parametrize(('setting', 'sentence'), [
    ('val_cfg.scales="[0]"', "scales of MultiResolutionValLoop has 0: give shares of the base resolution, such as '1/4'"),
    ('val_cfg.scales="[quarter]"', "scales of MultiResolutionValLoop has 'quarter'"),
    ('val_cfg.scales="[1/4,0.25]"', 'scales of MultiResolutionValLoop has 1/4 twice'),
    ('val_cfg.scales="[]"', 'needs at least one of scales'),
    ('val_cfg.num_images=0', 'num_images from 1')])
def test_validation_refuses_settings_in_one_sentence(world, setting, sentence):
    assert sentence in world.fails('train.py', 'mspe.py', '--work-dir', 'refused', '--cfg-options', setting)


def test_validation_that_is_not_imported_is_told_what_to_import(world):
    world.write_config('setr_mspe_5e_synthetic', 'unknown.py',
                       "load_from = 'base.pth'\ncustom_imports = dict(imports=['mspe_mm.seg'], allow_failed_imports=False)")
    done = world.run('train.py', 'unknown.py', check=False)
    assert "add custom_imports=dict(imports=['mspe_mm.evaluation.validation']" in done.stderr.splitlines()[-1]


def test_extracted_adapter_is_the_one_that_tuning_wrote(world):
    world.call('extract_adapter.py', 'mspe.py', 'work_dirs/mspe/epoch_2.pth', '--out', 'extracted.safetensors')
    (found, about), (expected, expected_about) = (
        read_adapter(world.folder / name) for name in ('extracted.safetensors', 'adapter.safetensors'))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert about == expected_about


def test_extract_adapter_refuses_an_untuned_checkpoint(world):
    assert 'base.pth has no tuned kernel' in world.fails('extract_adapter.py', 'mspe.py', 'base.pth', '--out',
                                                          'none.safetensors')


def test_adapter_is_written_without_its_hook(world):
    world.write_config('setr_mspe_5e_synthetic', 'no_hook.py', "load_from = 'base.pth'\ncustom_hooks = []\nval_cfg = None\n"
                       'val_dataloader = None\nval_evaluator = None\ntrain_cfg = dict(max_epochs=1, val_interval=1)')
    world.call('train.py', 'no_hook.py')
    assert (world.folder / 'work_dirs/no_hook/adapter.safetensors').is_file()
