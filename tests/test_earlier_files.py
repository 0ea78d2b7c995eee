"""Checkpoints, adapters and dumped configs of earlier versions: tests/fixtures/v0/README.md says how they were made."""
import json

import numpy as np
import pytest
import torch
from helpers import relative_error
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from python_processes import fork_python
from tools_helpers import ROOT, World

from mspe_mm.data.synthetic import write_synthetic, write_synthetic_folders
from mspe_mm.models.adapter import load_adapter
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.models.find import find_patch_embed

FILES = ROOT / 'tests/fixtures/v0'
OUTPUTS = np.load(FILES / 'outputs.npz')
METRICS = json.loads((FILES / 'metrics.json').read_text())


@pytest.fixture(scope='module')
def world(tmp_path_factory) -> World:
    """The data sets that the earlier version trained and tested on."""
    folder = tmp_path_factory.mktemp('earlier')
    write_synthetic(folder / 'data', num_train=48, num_val=6, size=(64, 64), seed=0)
    write_synthetic_folders(folder / 'folders', num_train=160, num_val=40, size=(32, 32), seed=0)
    return World(folder)


@pytest.mark.parametrize(('name', 'config', 'checkpoint', 'adapter'), [
    ('setr', 'setr.py', 'setr.pth', None),
    ('residual', 'setr.py', 'setr.pth', 'residual.safetensors'),
    ('native', 'native.py', 'setr.pth', 'native.safetensors'),
    ('overlapping', 'overlapping.py', 'overlapping.pth', 'overlapping.safetensors'),
    ('classifier', 'classifier.py', 'classifier.pth', None),
])
def test_earlier_weights_give_the_recorded_outputs(name, config, checkpoint, adapter):
    cfg = Config.fromfile(FILES / config)    # with its custom_imports
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.eval()
    if name == 'native':    # its base checkpoint has the kernels of another parameterization
        weights = torch.load(FILES / checkpoint, weights_only=False)['state_dict']
        model.load_state_dict({key: value for key, value in weights.items() if '.kernels.' not in key}, strict=False)
    else:
        load_weights(model, str(FILES / checkpoint))
    if adapter:
        layer = find_patch_embed(model)
        for parameter in layer.kernels.parameters():
            torch.nn.init.zeros_(parameter)    # so that they are the adapter's afterwards
        load_adapter(layer, FILES / adapter)
    images = torch.from_numpy(OUTPUTS['images']).float() / 64 - 2
    recorded = {int(key.split('_')[1]): OUTPUTS[key] for key in OUTPUTS.files if key.startswith(f'{name}_')}
    assert len(recorded) == 4
    with torch.no_grad():
        for size, expected in recorded.items():
            actual = model(images[..., :size, :size], mode='tensor')
            assert relative_error(actual, torch.from_numpy(expected)) < 1e-5    # rounding differs between processors


@pytest.mark.slow
@pytest.mark.parametrize('name', ['setr', 'classifier'])
def test_earlier_dumped_config_and_checkpoint_are_tested_to_the_recorded_metrics(world, name):
    world.call('test.py', FILES / f'{name}.py', FILES / f'{name}.pth', '--work-dir', f'tested_{name}')
    path, = (world.folder / f'tested_{name}').glob('*/*.json')
    found = json.loads(path.read_text())
    assert {key: found[key] for key in METRICS[name]} == pytest.approx(METRICS[name], abs=0.5)    # one pixel is 0.004%


@pytest.mark.slow
def test_earlier_checkpoint_resumes(world):
    world.call('train.py', FILES / 'setr.py', '--resume', FILES / 'setr.pth', '--work-dir', 'resumed', '--cfg-options',
               'train_cfg.max_epochs=3', 'default_hooks.checkpoint.interval=3', 'train_cfg.val_interval=3')
    before, after = (torch.load(path, weights_only=False) for path in (
        FILES / 'setr.pth', world.folder / 'resumed/epoch_3.pth'))
    assert (before['meta']['iter'], after['meta']['iter']) == (12, 18)
    assert len(after['message_hub']['log_scalars']['train/loss'].data[0]) == 18
    moved = {key for key, value in after['state_dict'].items() if not torch.equal(value, before['state_dict'][key])}
    assert moved
    assert all('.kernels.' in key for key in moved)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['setr', 'classifier'])
def test_earlier_dumped_config_builds_with_the_stock_runner(world, name):
    """The names that it holds (CheckedLoading, MSPERunner, mspe_safe) come with its custom_imports."""
    code = ('import sys; from mmengine.config import Config; from mmengine.runner import Runner; '
            f'cfg = Config.fromfile({str(FILES / name) + ".py"!r}); cfg.work_dir = "stock_{name}"; '
            f'cfg.load_from = {str(FILES / name) + ".pth"!r}; print("metrics", sorted(Runner.from_cfg(cfg).test()))')
    done = fork_python('-c', code, folder=world.folder)
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(sorted(METRICS[name])) in done.stdout


def test_recorded_files_stay_small():
    assert all(path.stat().st_size < 300_000 for path in FILES.iterdir())
