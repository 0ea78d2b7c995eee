"""Importing mspe_mm.det: what it needs, and what it leaves alone."""
import subprocess
import sys

import pytest
from mmdet.registry import MODELS
from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS

import mspe_mm.det

OTHERS = ('ViT', 'LN2d', 'SimpleFPN', 'LayerDecayOptimizerConstructor', 'Fp16CompresssionHook')


def run(code):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)


@pytest.mark.slow
def test_without_mmseg_and_beside_the_vitdet_project():
    """One process, to be quick: mmseg cannot be imported, and the names of mmdetection's ViTDet project are taken."""
    result = run(f'''
import sys
sys.modules['mmseg'] = None
from torch import nn
from mmdet.registry import MODELS
from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
for name in {OTHERS!r}:
    for registry in (MODELS, HOOKS, OPTIM_WRAPPER_CONSTRUCTORS):
        registry.register_module(name, module=type(name, (nn.Module, ), {{}}))
import mspe_mm.det
init_default_scope('mmdet')
assert MODELS.get('ViT').__name__ == 'ViT' and MODELS.get('MSPEViTDet') is mspe_mm.det.MSPEViTDet
assert not any(name.startswith(('timm', 'mspe_mm.seg')) for name in sys.modules)
print('fine')
''')
    assert result.stdout.strip() == 'fine', result.stderr


@pytest.mark.slow
def test_without_mmdet():
    result = run("import sys; sys.modules['mmdet'] = None; import mspe_mm; import mspe_mm.det")
    assert result.stderr.strip().splitlines()[-1] == (
        "ModuleNotFoundError: mspe_mm.det needs MMDetection and mmcv with its compiled ops, and 'mmdet' is missing: install "
        'mspe_mm[onedl] (maintained) or mspe_mm[upstream] (the 2024 releases)')


def test_registered_names_are_our_own():
    registered = [name for registry in (MODELS, HOOKS, OPTIM_WRAPPER_CONSTRUCTORS)
                  for name, module in (registry.module_dict | (registry.parent or registry).module_dict).items()
                  if getattr(module, '__module__', '').startswith('mspe_mm.det')]
    assert sorted(registered) == sorted(set(mspe_mm.det.__all__) - {'MultiResolutionDetectorMixin'})
    assert not set(registered) & set(OTHERS)
    assert all(name.startswith('MSPE') or name == 'DatasetCheckHook' for name in registered)
