"""The wheel is enough: installed outside of the clone, the command ``mspe`` predicts and sweeps."""
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest
from tools_helpers import ROOT

from mspe_mm.__main__ import commands

from .conftest import CONFIG

PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
SOURCES = ('mspe_mm', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE',
           'CHANGELOG.md', 'model-index.yml')
API = '''
import sys
import mspe_mm
predictor = mspe_mm.load('small.py', 'base.pth', 'adapter.safetensors', device='cpu')
print(mspe_mm.__file__, predictor(sys.argv[1])[0].pred_sem_seg.data.shape)
'''


@pytest.fixture(scope='module')
def installed(world, tmp_path_factory):
    """Runs a program of an environment that has the wheel and the hosts, but not the clone, beside a model."""
    folder = tmp_path_factory.mktemp('installed')

    def run(*command, **settings):
        environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment,
                              **{'cwd': folder, **settings})
        assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-3000:]}'
        return done.stdout

    source, bin_ = folder / 'source', folder / 'env/bin'
    source.mkdir()
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, source / name)
    run(sys.executable, 'setup.py', '-q', 'sdist', '-d', folder / 'dist', cwd=source)
    (archive, ) = (folder / 'dist').glob('*.tar.gz')
    with tarfile.open(archive) as file:
        file.extractall(folder / 'sdist')
    shutil.rmtree(source)
    (unpacked, ) = (folder / 'sdist').iterdir()
    run(*PIP, 'wheel', '-q', '--no-deps', '--no-build-isolation', '--no-index', '-w', folder / 'dist', unpacked)
    (wheel, ) = (folder / 'dist').glob('*.whl')
    shutil.rmtree(unpacked)
    venv.create(folder / 'env', with_pip=False)
    (site, ) = (folder / 'env').glob('lib/python*/site-packages')
    (site / 'hosts.pth').write_text(sysconfig.get_path('purelib'))    # without its own .pth files, such as an editable clone
    run(*PIP, '--python', bin_ / 'python', 'install', '-q', '--no-deps', '--no-index', wheel)
    for name in ('base.pth', 'adapter.safetensors'):
        shutil.copy(world.folder / name, folder / name)
    shutil.copytree(world.folder / 'data', folder / 'data')
    text = CONFIG.format(root='', name='setr_mspe_5e_synthetic', more='')
    (folder / 'small.py').write_text(text.replace('/configs/', 'mspe_mm::'))
    return lambda program, *arguments: run(bin_ / program, *arguments), folder


def test_wheel_has_configs_tools_and_model_index_as_openmmlab_packages_do(installed):
    _, folder = installed
    (mim, ) = (folder / 'env').glob('lib/python*/site-packages/mspe_mm/.mim')
    assert {path.relative_to(mim) for path in mim.rglob('*.py')} == {
        path.relative_to(ROOT) for room in ('configs', 'tools') for path in (ROOT / room).rglob('*.py')}
    assert (mim / 'tools/dist_train.sh').is_file()
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    assert (mim / 'configs/metafile.yml').is_file()


def test_wheel_gives_the_command_mspe_with_all_tools(installed):
    run, _ = installed
    text = run('mspe', '--help')
    assert all(f'  {name} ' in text for name in commands())


def test_wheel_gives_mspe_load(installed):
    run, folder = installed
    path, shape = run('python', '-c', API, 'data/images/val/00000.png').splitlines()[-1].split(' ', 1)
    assert Path(path).is_relative_to(folder)
    assert shape == 'torch.Size([1, 64, 64])'


def test_wheel_predicts_and_sweeps(installed):
    run, folder = installed
    run('mspe', 'predict', 'small.py', 'base.pth', '--adapter', 'adapter.safetensors', 'data/images/val',
        '--out-dir', 'found')
    predictions = json.loads((folder / 'found/predictions.json').read_text())
    assert len(list((folder / 'found').rglob('*.png'))) >= 4
    assert predictions['config'] == 'small.py'
    run('mspe', 'sweep', 'small.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', '16', '64',
        '--methods', 'vanilla', 'mspe', '--out-dir', 'sweep')
    assert len(json.loads((folder / 'sweep/results.json').read_text())['rows']) == 4
