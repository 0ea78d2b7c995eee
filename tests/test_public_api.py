"""What ``import mspe_mm`` offers."""
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import mspe_mm
import mspe_mm.core

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize('package', [mspe_mm, mspe_mm.core], ids=lambda package: package.__name__)
def test_public_names_exist_and_are_listed(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_public_names_are_those_of_the_documentation():
    assert set(mspe_mm.__all__) == {
        '__version__', 'InputError', 'MultiResolutionObjective', 'MultiResolutionTraining', 'MultiScalePatchEmbed',
        'Predictor', 'TokenGridObjective', 'TunedModel', 'convert_patch_embed', 'load', 'load_adapter', 'pi_resize',
        'save_adapter'}
    assert {'load_adapter', 'save_adapter', 'TokenGridObjective', 'MultiResolutionTraining'} <= set(mspe_mm.core.__all__)


def test_help_lists_the_public_functions_and_classes():
    text = pydoc.plain(pydoc.render_doc(mspe_mm))
    for name in set(mspe_mm.__all__) - {'__version__'}:
        assert name in text
    assert 'class MultiScalePatchEmbed' in text
    assert 'convert_patch_embed(model' in text


def test_importing_the_package_imports_neither_torch_nor_a_host():
    code = 'import sys, mspe_mm; dir(mspe_mm); print({"torch", "numpy", "mmengine", "timm", "cv2"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mspe_mm' has no attribute 'misspelt'"):
        mspe_mm.misspelt  # noqa: B018
