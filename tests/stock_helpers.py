"""Running dumped configs with the host libraries alone, in a process of its own."""
from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from python_processes import fork_python
from tools_helpers import tail

TRAIN_AND_TEST = '''
import sys
from mmengine.config import Config
from mmengine.runner import Runner
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir, cfg.train_cfg.max_epochs = 'stock', 1
runner = Runner.from_cfg(cfg)
runner.train()
runner.test()
'''
OF_THE_VERSION_BEFORE = '''
import sys
from mmengine.config import Config
from mmengine.registry import RUNNERS
cfg = Config.fromfile(sys.argv[1])
cfg.work_dir, cfg.train_cfg.max_epochs, cfg.runner_type = 'before', 1, 'MSPERunner'
cfg.default_hooks.pop('data_checks')
cfg.default_hooks.checkpoint.backend_args = dict(backend='mspe_safe')
for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
    steps = loader.dataset.pipeline
    loader.dataset.pipeline = [
        dict(type='CheckedLoading', transform=dict(step), num_classes=None, ignore_index=255)
        if step['type'] in ('LoadImageFromFile', 'LoadAnnotations') else step for step in steps]
runner = RUNNERS.build(cfg)
runner.train()
runner.test()
'''
OURS = ('CheckedLoading', 'runner_type', 'mspe_safe', 'timm_name')


def assert_python_runs(script: str, folder: Path, *args: object) -> None:
    """Run a script in ``folder``; fails with what it has printed."""
    done = fork_python('-c', script, *args, folder=folder)
    assert done.returncode == 0, tail(done)


def added_by_tools(path: Path) -> list[str]:
    """What the tools of the version before wrote into configs beside the model, and a dumped config has."""
    others = str({key: value for key, value in Config.fromfile(path).items() if key != 'model'})
    return [name for name in OURS if name in others]
