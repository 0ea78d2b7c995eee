"""Every shipped recipe that tunes predicts small images at their own size, through the hosts' own functions too."""
import pytest
from mmengine.config import Config
from tools_helpers import ROOT

import mspe_mm.seg  # noqa: F401  registers the transforms


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
