"""Stock mmseg backbones converted by a key of the config: SegFormer and Swin-UPerNet, and their configs."""
from __future__ import annotations

import copy
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from helpers import noise, randomize
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from mspe_mm import InputError
from mspe_mm.models.adapter import load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed
from mspe_mm.seg import MSPEEncoderDecoder

register_all_modules()

CONFIGS = Path(__file__).parents[2] / 'configs'
HOST_CONFIGS = Path(mmseg.__file__).parent / '.mim/configs'
HOSTS = {
    'segformer_mit-b0_mspe_ade20k': 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'upernet_swin-t_mspe_ade20k': 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'}
NAMES = [*HOSTS, 'segformer_mspe_camvid']
CLASSES = 5
BASE = (64, 96)
every_config = pytest.mark.parametrize('name', NAMES)


def tiny_config(name: str, **changes) -> ConfigDict:
    """The model of a config of the repository, small, at 64 x 96."""
    model = Config.fromfile(CONFIGS / f'{name}.py').model
    model.data_preprocessor.size = BASE
    model.patch_embed.base_resolution = BASE
    norm = dict(type='BN')
    model.decode_head.update(channels=8, num_classes=CLASSES, norm_cfg=norm)
    if 'segformer' in name:
        model.backbone.update(embed_dims=4, num_layers=[1] * 4, num_heads=[1, 1, 2, 2])
        model.decode_head.in_channels = [4, 4, 8, 8]
    else:
        model.backbone.update(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4)
        model.decode_head.in_channels = [8, 16, 32, 64]
        model.auxiliary_head.update(in_channels=32, channels=8, num_classes=CLASSES, norm_cfg=norm)
    for key, value in changes.items():
        model[key] = value    # not merged
    return model


def stock_config(name: str) -> ConfigDict:
    model = tiny_config(name)
    model.type = 'EncoderDecoder'
    del model.patch_embed, model.tuning
    return model


def stock_model(name: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = randomize(MODELS.build(stock_config(name)), seed)
    model.eval()
    return model.requires_grad_(False)


def mspe_model(name: str, **changes) -> MSPEEncoderDecoder:
    return MODELS.build(tiny_config(name, **changes))


def batch(size: tuple[int, int] = BASE, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    images = [torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8)) for _ in range(2)]
    masks = [torch.from_numpy(random.integers(0, CLASSES, (1, *BASE))) for _ in range(2)]
    meta = dict(ori_shape=BASE, img_shape=size, pad_shape=size)
    return dict(inputs=images,
                data_samples=[SegDataSample(gt_sem_seg=PixelData(data=mask), metainfo=meta) for mask in masks])


# -- The configs, run small --------------------------------------------------------------------------------------------


@every_config
@torch.no_grad()
def test_a_stock_checkpoint_loads_strictly_and_predicts_bit_for_bit_at_the_base_resolution(name):
    stock, model = stock_model(name), mspe_model(name)
    model.load_state_dict(stock.state_dict(), strict=True)
    randomize(find_patch_embed(model).kernels)
    model.eval().requires_grad_(False)
    for ours, theirs in zip(model.val_step(batch()), stock.val_step(batch())):
        assert torch.equal(ours.seg_logits.data, theirs.seg_logits.data)


@every_config
def test_one_step_of_tuning_moves_the_kernels_alone(name):
    model = mspe_model(name, tuning=dict())    # a pass for each kernel
    model.load_state_dict(stock_model(name).state_dict(), strict=True)
    before = copy.deepcopy(model.state_dict())
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))
    logged = model.train().train_step(batch(), optim_wrapper)
    assert logged['loss'].isfinite()
    assert {key.split('.')[0] for key in logged} == {'loss', 'k1', 'k2', 'k3'}
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if '.kernels.' in key} != set()


@every_config
@torch.no_grad()
def test_every_stage_has_the_base_grid_and_predictions_the_original_size_at_other_resolutions(name):
    model = mspe_model(name)
    model.eval()
    shapes = [features.shape for features in model.backbone(noise(1, 3, *BASE, dtype=torch.float32))]
    for factor in (0.25, 0.5, 2):
        size = tuple(int(length * factor) for length in BASE)
        features = model.backbone(noise(1, 3, *size, dtype=torch.float32))
        assert [f.shape for f in features] == shapes
        assert all(sample.pred_sem_seg.data.shape[1:] == BASE for sample in model.val_step(batch(size)))


@pytest.mark.parametrize('name', HOSTS)
@torch.no_grad()
def test_whole_images_are_the_stock_models_at_any_aspect_ratio_and_shrink_with_square_patches(name):
    """The base is square in these configs: 512 px is the short side of the test images."""
    changes = dict(patch_embed=dict(base_resolution=(64, 64), kernel_policy='isotropic'))
    assert Config.fromfile(CONFIGS / f'{name}.py').model.patch_embed.kernel_policy == 'isotropic'
    stock, model = stock_model(name), mspe_model(name, **changes)
    model.load_state_dict(stock.state_dict(), strict=True)
    model.eval().requires_grad_(False)
    grids = set()
    for size in [(64, 64), (64, 112), (96, 64)]:
        x = noise(1, 3, *size, dtype=torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(model.backbone(x), stock.backbone(x)))
        layer = find_patch_embed(model)
        half = tuple(length // 2 for length in size)
        assert layer.token_grid(half) == layer.token_grid(size)
        grids.add(layer.token_grid(size))
    assert len(grids) == 3


@pytest.mark.parametrize('name', HOSTS)
def test_the_model_is_the_hosts_own(name):
    """Architecture and classes of mmseg's config, whose checkpoint is loaded."""
    ours = Config.fromfile(CONFIGS / f'{name}.py')
    host = Config.fromfile(HOST_CONFIGS / HOSTS[name]).model
    model = copy.deepcopy(ours.model)
    assert (model.pop('type'), host.pop('type')) == ('MSPEEncoderDecoder', 'EncoderDecoder')
    assert model.pop('patch_embed').base_resolution == host.data_preprocessor.size == ours.crop_size
    assert model.pop('tuning') is not None
    host.pop('pretrained', None)
    host.backbone.pop('init_cfg')
    assert model.to_dict() == host.to_dict()
    checkpoint = ours.load_from.rpartition('/')[2]
    metafile, = (HOST_CONFIGS / HOSTS[name]).parent.glob('metafile.y*ml')
    weights = [line.split()[-1] for line in metafile.read_text().splitlines() if 'Weights:' in line]
    assert any(url.endswith(f'/{checkpoint}') for url in weights)


def test_the_camvid_configs_are_one_model():
    base, tuned = (Config.fromfile(CONFIGS / f'{name}.py') for name in ('segformer_camvid', 'segformer_mspe_camvid'))
    assert base.model.type == 'EncoderDecoder'
    assert {**tuned.model, 'type': None, 'patch_embed': None, 'tuning': None} == {
        **base.model, 'type': None, 'patch_embed': None, 'tuning': None}
    assert tuned.model.patch_embed.base_resolution == base.crop_size
    assert tuned.load_from == f'work_dirs/segformer_camvid/epoch_{base.train_cfg.max_epochs}.pth'


# -- The key -----------------------------------------------------------------------------------------------------------


def test_an_adapter_of_another_segmentor_is_refused(tmp_path):
    path = tmp_path / 'adapter.safetensors'
    model = mspe_model(NAMES[0])
    save_adapter(find_patch_embed(model), path)
    load_adapter(find_patch_embed(model), path)
    for other, reason in ((mspe_model(NAMES[1]), 'embed_dims'), (mspe_model(NAMES[0]), 'does not fit this checkpoint')):
        with pytest.raises(InputError, match=reason):
            load_adapter(find_patch_embed(other), path)


def test_frozen_stages_of_the_host_do_not_freeze_what_is_tuned():
    name = 'upernet_swin-t_mspe_ade20k'
    config = tiny_config(name)
    config.backbone.frozen_stages = 1
    model = MODELS.build(config).train()
    trainable = {key for key, p in model.named_parameters() if p.requires_grad}
    assert trainable == {key for key, _ in model.named_parameters() if '.kernels.' in key} != set()


@every_config
@pytest.mark.parametrize('parameterization', ['native', 'residual'])
def test_init_weights_leaves_the_kernels_consistent_with_the_base_kernel(name, parameterization):
    config = tiny_config(name)
    config.patch_embed.parameterization = parameterization
    model = MODELS.build(config)
    model.init_weights()
    assert not find_patch_embed(model).is_tuned()


@pytest.mark.parametrize(('changes', 'sentence'), [
    (dict(patch_embed=None), r'MSPEEncoderDecoder needs.*MixVisionTransformer has none.*give patch_embed=dict'),
    (dict(patch_embed=dict(base_resolution=(62, 96))), 'whole patches of 4 px'),
    (dict(patch_embed=dict()), 'give base_resolution='),
    (dict(backbone=dict(type='ResNetV1c', depth=18)), 'ResNet.*cannot be converted.*not for CNNs')])
def test_a_backbone_that_cannot_have_the_layer_is_refused_with_the_key_to_set(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        mspe_model('segformer_mit-b0_mspe_ade20k', **changes)
