"""What mmengine says of a config becomes one sentence with the nearest name."""
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OneCycleLR
from mmengine.registry import MODELS, init_default_scope
from torch.utils.data import DataLoader

import mspe_mm.cls
import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.runtime.config_errors import config_error


def sentence(call):
    with pytest.raises(Exception) as error:    # noqa: PT011
        call()
    found = config_error(error.value)
    return found if found is None else str(found)


def build_mm(registry, scope, **cfg):
    def call():
        init_default_scope(scope)
        from importlib import import_module
        return getattr(import_module(f'{scope}.registry'), registry).build(cfg)
    return call


def test_config_error_names_the_nearest_type():
    said = sentence(build_mm('TRANSFORMS', 'mmseg', type='LoadAnotations'))
    assert said == "mmseg has no transform of type 'LoadAnotations': did you mean 'LoadAnnotations'?"
    assert 'correct the type, or add the module that defines it to custom_imports' in sentence(
        build_mm('TRANSFORMS', 'mmseg', type='Xyzzy'))


def test_config_error_names_the_library_that_has_a_type():
    said = sentence(build_mm('MODELS', 'mmdet', type='EncoderDecoder'))
    assert said == ("mmdet has no model of type 'EncoderDecoder', it is of mmseg: write mmseg.EncoderDecoder, or correct "
                    'default_scope of the config')


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_config_error_names_the_room_of_a_backbone_that_is_not_imported(scope, monkeypatch):
    for registered in ('MSPETimmViT', 'MSPEFeatureModel'):
        monkeypatch.delitem(MODELS.module_dict, registered)
    for name in [name for name in sys.modules if name.startswith('mspe_mm.backbones')]:
        monkeypatch.delitem(sys.modules, name)
    assert sentence(build_mm('MODELS', scope, type='MSPETimmViT')) == (
        f"{scope} has no model of type 'MSPETimmViT' before mspe_mm.backbones is imported: add "
        "custom_imports=dict(imports=['mspe_mm.backbones'], allow_failed_imports=False) to the config")


def test_config_error_names_the_nearest_argument_of_a_class_and_its_bases():
    assert "Resize has no setting 'scal': did you mean 'scale'?" in sentence(
        build_mm('TRANSFORMS', 'mmseg', type='Resize', scal=(8, 8)))
    assert "MSPEClassifier has no setting 'timm_nam': did you mean 'timm_name'?" in sentence(    # of its base
        build_mm('MODELS', 'mmengine', type='MSPEClassifier', timm_nam='x'))


def test_config_error_names_a_class_that_lacks_an_argument():
    said = sentence(build_mm('TRANSFORMS', 'mmseg', type='RandomCrop'))
    assert said.startswith('RandomCrop cannot be built from its config')
    assert 'crop_size' in said


def test_config_error_names_a_missing_key():
    assert sentence(lambda: Config(dict(model=dict())).model.load_from) == (
        'the config has no load_from: add it to the config, or give it by --cfg-options')


def test_config_error_names_settings_of_a_loader():
    assert 'persistent_workers option needs num_workers > 0' in sentence(
        lambda: DataLoader([1], num_workers=0, persistent_workers=True))


@pytest.mark.parametrize('bug', [lambda: {}['a'], lambda: len(3), lambda: int('x'), lambda: None.a])
def test_config_error_leaves_bugs_alone(bug):
    assert sentence(bug) is None


def test_config_error_says_what_a_one_cycle_schedule_of_few_steps_needs():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.)
    assert sentence(lambda: OneCycleLR(optimizer, eta_max=1., total_steps=10, pct_start=0.1)) == (
        'OneCycleLR of param_scheduler has 10 steps, of which the warm-up would be one, and mmengine divides by zero: set '
        'pct_start=0.3, or train longer')
    assert sentence(lambda: 1 / 0) is None
