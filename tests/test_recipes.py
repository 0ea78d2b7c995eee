"""Every shipped recipe names what it needs and predicts small images at their own size, through the hosts' functions too."""
from collections import defaultdict
from functools import cache

import pytest
from mmengine.config import Config
from python_processes import fork_python
from tools_helpers import ROOT

import mspe_mm.seg  # noqa: F401  registers the transforms
from mspe_mm.runtime.config_errors import BACKBONES, PLUGINS, VALIDATION


def recipes():
    """Configs that tune patch kernels for images below the base resolution, and have a test pipeline."""
    for path in sorted((ROOT / 'configs').glob('*.py')):
        cfg = Config.fromfile(path, import_custom_modules=False)
        tuning = cfg.get('model', {}).get('tuning')
        # freeze=False trains all weights on images at the base resolution (FlexiViT).
        if tuning is not None and tuning.get('freeze', True) and cfg.get('test_dataloader'):
            yield pytest.param(cfg, id=path.stem)


RECIPES = [*recipes()]
SLIDING = [recipe for recipe in RECIPES if (recipe.values[0].model.get('test_cfg') or {}).get('mode') == 'slide']


@pytest.mark.parametrize('cfg', RECIPES)
def test_test_pipelines_do_not_enlarge_small_images(cfg):
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        pipeline = loader.dataset.pipeline
        keeps = [step for step in pipeline if step.type == 'ResizeIfLarger' or step.get('keep_small')]
        assert len(keeps) == 1
        assert not any(step.type in ('Resize', 'RandomResize', 'FixScaleResize') for step in pipeline)


@pytest.mark.parametrize('cfg', SLIDING)
def test_sliding_windows_are_of_the_size_that_the_pipeline_resizes_to(cfg):
    resize = next(step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'ResizeIfLarger')
    assert tuple(cfg.model.test_cfg.scale) == tuple(resize.scale)


# -- What a config names is registered by its imports: it runs in a new process, and through the hosts' own tools -----------

REGISTERED = """
import sys
from importlib import import_module

from mmengine import registry

for module in sys.argv[1:]:
    import_module(module)
registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
while registries:
    one = registries.pop()
    registries += one.children.values()
    print(*(name for name, found in one.module_dict.items() if found.__module__.startswith('mspe_mm')), sep='\\n')
"""


@cache
def registered_by(*modules: str) -> frozenset[str]:
    """Names that a new process has in mmengine's registries after importing ``modules``."""
    done = fork_python('-c', REGISTERED, *modules, folder=ROOT)
    assert done.returncode == 0, done.stderr
    return frozenset(done.stdout.split())


def types(value) -> set[str]:
    """All types that a config names, without their scope."""
    if isinstance(value, dict):
        own = {value[key].rpartition('.')[2] for key in ('type', 'constructor') if isinstance(value.get(key), str)}
        return own.union(*map(types, value.values()))
    return set().union(*map(types, value)) if isinstance(value, (list, tuple)) else set()


def configs_by_imports() -> dict[tuple[str, ...], list[Config]]:
    groups = defaultdict(list)
    for path in sorted((ROOT / 'configs').glob('*.py')):
        cfg = Config.fromfile(path, import_custom_modules=False)
        groups[tuple(cfg.get('custom_imports', dict(imports=()))['imports'])].append(cfg)
    return groups


@pytest.mark.parametrize(('imports', 'configs'), [
    pytest.param(*group, id='+'.join(group[0]) or 'none') for group in configs_by_imports().items()])
def test_the_imports_of_a_config_register_all_that_it_names(imports, configs):
    ours, registered = registered_by(*PLUGINS.values(), VALIDATION, BACKBONES), registered_by(*imports)
    assert ours >= {'MultiResolutionValLoop', 'MSPEViT', 'AdapterHook'}
    missing = {cfg.filename: found for cfg in configs if (found := (types(cfg.to_dict()) & ours) - registered)}
    assert not missing
