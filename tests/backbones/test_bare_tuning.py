"""The recipes that tune a backbone without a head, by the command lines that users type, on tiny models and images."""
from __future__ import annotations

import shutil

import pytest
import torch
from helpers import randomize
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.utils import register_all_modules
from tools_helpers import ROOT, World

import mspe_mm.backbones
import mspe_mm.cls
import mspe_mm.seg  # noqa: F401
from mspe_mm.data.synthetic import write_synthetic
from mspe_mm.models.adapter import base_digest, load_adapter, read_adapter
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.models.find import find_patch_embed
from mspe_mm.runtime.cli import initialises_own_weights

TINY = 'embed_dim=32, depth=2, num_heads=2'
BARE = '''
_base_ = '{root}/configs/{name}.py'
model = dict(backbone=dict(img_size={size}, model_kwargs=dict({kwargs})))
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root='photographs'))
max_epochs = 6    # 24 draws of one of six kernels
param_scheduler = []
train_cfg = dict(max_epochs=max_epochs)
{more}
'''
LINEAR = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(img_size=(64, 64), model_kwargs=dict({kwargs}), out_indices=(1, )),
    decode_head=dict(in_channels=32, channels=32))
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(num_workers=0, persistent_workers=False,
                       dataset=dict(data_root='data', img_suffix='.png', pipeline=test_pipeline))
'''
CLASSIFIER = '''
_base_ = '{root}/configs/{name}.py'
model = dict(model_kwargs=dict(img_size=32, {kwargs}))
'''

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """A folder of photographs, and models with heads: the configs and checkpoints of a segmentor and of a classifier."""
    folder = tmp_path_factory.mktemp('bare')
    register_all_modules(init_default_scope=False)
    write_synthetic(folder / 'data', num_train=4, num_val=2, size=(64, 64), seed=0)
    shutil.copytree(folder / 'data/images/train', folder / 'photographs')
    for template, filename, name in [
            (LINEAR, 'dinov2', 'linear_dinov2-ti_mspe_camvid'),
            (LINEAR, 'dinov3', 'linear_dinov3-b_mspe_ade20k'),
            (CLASSIFIER, 'vit', 'vit_mspe_synthetic_cls')]:
        (folder / f'{filename}.py').write_text(template.format(root=ROOT, name=name, kwargs=TINY))
        cfg = Config.fromfile(folder / f'{filename}.py')
        init_default_scope(cfg.default_scope)
        stock = randomize(MODELS.build(cfg.model)).state_dict()
        stock = {key: value for key, value in stock.items() if '.kernels.' not in key}    # as the base recipe saves it
        torch.save(dict(state_dict=stock), folder / f'{filename}.pth')
    return World(folder)


def tuned(world: World, filename: str, recipe: str, size: object, more: str) -> tuple[dict, dict]:
    """Train a bare config; the weights of the base model and those after tuning."""
    (world.folder / f'bare_{filename}.py').write_text(
        BARE.format(root=ROOT, name=recipe, size=size, more=more, kwargs=TINY))
    world.call('train.py', f'bare_{filename}.py')
    return tuple(torch.load(world.folder / path, weights_only=False)['state_dict']
                 for path in (f'{filename}.pth', f'work_dirs/bare_{filename}/epoch_6.pth'))


def with_adapter(world: World, filename: str) -> torch.nn.Module:
    """The model with a head, with its checkpoint and the adapter of the bare tuning, whose digest is compared."""
    cfg = Config.fromfile(world.folder / f'{filename}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    load_weights(model, str(world.folder / f'{filename}.pth'))
    path = world.folder / f'work_dirs/bare_{filename}/adapter.safetensors'
    layer = find_patch_embed(model)
    load_adapter(layer, path)
    assert read_adapter(path)[1]['base_digest'] == f'"{base_digest(layer)}"'
    return model


def assert_kernels_alone_moved(base: dict, after: dict, prefix: str) -> None:
    """``base`` has names that begin with ``prefix`` where those of the bare model begin with ``backbone.vit.``."""
    kernels = {name: value for name, value in after.items() if '.kernels.' in name}
    assert kernels
    assert all(value.any() for value in kernels.values())
    others = {name.replace('backbone.vit.', prefix, 1): value for name, value in after.items() if name not in kernels}
    assert others
    assert all(torch.equal(value, base[name]) for name, value in others.items())


def test_the_segmentor_that_gave_the_weights_takes_the_adapter_of_its_bare_backbone(world):
    base, after = tuned(world, 'dinov2', 'dinov2-ti_distill_camvid', (64, 64), "load_from = 'dinov2.pth'")
    assert_kernels_alone_moved(base, after, 'backbone.vit.')
    assert not any('head' in name for name in after)
    log = next((world.folder / 'work_dirs/bare_dinov2').glob('*/vis_data/scalars.json')).read_text()
    assert '"loss_distill"' in log
    assert with_adapter(world, 'dinov2').mspe_layer.is_tuned()
    world.call('test.py', 'dinov2.py', 'dinov2.pth', '--adapter', 'work_dirs/bare_dinov2/adapter.safetensors')
    assert list((world.folder / 'work_dirs/dinov2').glob('*/*.json'))


def test_a_classifier_gives_its_weights_and_takes_the_adapter(world):
    more = "model['backbone']['init_cfg'] = dict(checkpoint='vit.pth')"
    base, after = tuned(world, 'vit', 'vit_distill_synthetic', 32, more)
    assert_kernels_alone_moved(base, after, 'backbone.')
    assert with_adapter(world, 'vit').mspe_layer.is_tuned()


def test_the_recipe_of_dinov3_tunes_given_weights_without_the_hub(world, monkeypatch):
    """``load_from`` has them all, so ``pretrained=True`` fetches nothing; nor does a resumed training."""
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    base, after = tuned(world, 'dinov3', 'dinov3-b_distill_folder', (64, 64), "load_from = 'dinov3.pth'")
    assert_kernels_alone_moved(base, after, 'backbone.vit.')
    assert with_adapter(world, 'dinov3').mspe_layer.is_tuned()
    world.call('train.py', 'bare_dinov3.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=7')
    assert (world.folder / 'work_dirs/bare_dinov3/epoch_7.pth').is_file()


def test_bare_backbone_without_weights_is_refused(world):
    (world.folder / 'none.py').write_text(
        BARE.format(root=ROOT, name='dinov3-b_distill_folder', size=(64, 64), kwargs=TINY, more=''))
    sentence = world.fails('train.py', 'none.py', '--cfg-options', 'model.backbone.pretrained=False')
    assert 'tunes a trained model, and none is given: add --cfg-options load_from=CHECKPOINT' in sentence


def test_names_that_a_checkpoint_does_not_have_are_refused(world):
    more = "model['backbone']['init_cfg'] = dict(checkpoint='vit.pth', prefix='encoder.')"
    (world.folder / 'misnamed.py').write_text(
        BARE.format(root=ROOT, name='vit_distill_synthetic', size=32, kwargs=TINY, more=more))
    sentence = world.fails('train.py', 'misnamed.py')
    assert "checkpoint vit.pth has no names that begin with 'encoder.': correct init_cfg.prefix" in sentence


def test_pretrained_backbones_are_whole_models_only_without_a_head():
    bare, linear = (Config.fromfile(ROOT / f'configs/{name}.py')
                    for name in ('dinov3-b_distill_folder', 'linear_dinov3-b_mspe_ade20k'))
    linear.model.backbone.pretrained = True
    assert initialises_own_weights(bare)
    assert not initialises_own_weights(linear)


@pytest.mark.parametrize(('bare', 'linear'), [('dinov3-b_distill_folder', 'linear_dinov3-b_mspe_ade20k'),
                                              ('dinov2-ti_distill_camvid', 'linear_dinov2-ti_mspe_camvid'),
                                              ('sam-ti_distill_camvid', 'linear_sam-ti_mspe_camvid')])
def test_recipes_have_the_layer_of_the_recipe_with_a_head(bare, linear):
    """So the adapter loads without changes of the config."""
    ours, theirs = (Config.fromfile(ROOT / f'configs/{name}.py').model.backbone for name in (bare, linear))
    for key in ('model_name', 'img_size', 'model_kwargs', 'kernel_sizes', 'context', 'kernel_policy', 'downsampling'):
        assert ours.get(key) == theirs.get(key)
