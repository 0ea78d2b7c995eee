"""Which module imports which: the contracts stand in pyproject.toml, docs/architecture.md draws them."""
from pathlib import Path

import pytest
from importlinter.cli import lint_imports
from python_processes import fork_python

ROOT = Path(__file__).parents[1]


def test_import_contracts_hold(capsys):
    code = lint_imports(config_filename=str(ROOT / 'pyproject.toml'), no_cache=True)
    assert code == 0, capsys.readouterr().out


@pytest.mark.slow
def test_hosts_register_the_changes_of_resolution_without_loading_opencv():
    code = """
import sys, mspe_mm.seg, mspe_mm.det, mspe_mm.cls
from mmengine.registry import TRANSFORMS
assert all(name in TRANSFORMS for name in ('ChangeResolution', 'CompressJPEG', 'AddBlur', 'AddNoise'))
print('by', [name for name, module in sys.modules.items() if name.startswith('mspe_mm') and hasattr(module, 'cv2')])
"""
    done = fork_python('-c', code, folder=ROOT)
    assert done.stdout.splitlines()[-1] == 'by []', done.stderr    # mmengine and mmcv load it themselves
