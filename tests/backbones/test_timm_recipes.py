"""The recipes with timm's backbones, on tiny models: they train a step and predict, and their twins are the same model."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm
import torch
from helpers import randomize
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import register_all_modules
from timm_families import WINDOWS, images_with_masks
from torch import nn

import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.models.find import find_patch_embed

register_all_modules(init_default_scope=False)

CONFIGS = Path(__file__).parents[2] / 'configs'
SEGMENTORS = ['linear_dinov2-b_ade20k', 'linear_dinov3-b_ade20k', 'upernet_dinov2-b_ade20k', 'upernet_dinov3-b_ade20k',
              'setr_sam-b_ade20k', 'linear_dinov2-ti_camvid', 'linear_sam-ti_camvid']
DETECTORS = ['mask-rcnn_dinov3-b_coco', 'dino_dinov3-b_coco']
CLASSES = 3
TOKENS = 4
every_recipe = pytest.mark.parametrize('recipe', SEGMENTORS + DETECTORS)


def twin_of(recipe: str) -> str:
    name, _, data = recipe.rpartition('_')
    return f'{name}_mspe_{data}'


def load(recipe: str) -> Config:
    return Config.fromfile(CONFIGS / f'{recipe}.py')


def tiny(recipe: str) -> Config:
    """The config with a model of two blocks on 4 x 4 tokens."""
    cfg = load(recipe)
    model, backbone = cfg.model, cfg.model.backbone
    patch = max(backbone.kernel_sizes)
    size = (TOKENS * patch, TOKENS * patch)
    sam, several = 'samvit' in backbone.model_name, len(backbone.out_indices) > 1
    kwargs = dict(backbone.get('model_kwargs') or {}, embed_dim=32, depth=4 if several else 2, num_heads=2)
    if sam:
        kwargs.update(WINDOWS, img_size=2 * size[0])    # tables for a larger size, as those of the recipe are
    backbone.update(img_size=size, model_kwargs=kwargs, out_indices=(0, 1, 2, 3) if several else (1, ))
    backbone.pop('pretrained', None)
    (tiny_segmentor if cfg.default_scope == 'mmseg' else tiny_detector)(model, size, 16 if sam else 32)
    return cfg


def tiny_segmentor(model: ConfigDict, size: tuple[int, int], channels: int) -> None:
    model.data_preprocessor.size = size
    head, norm = model.decode_head, dict(type='BN')
    several = isinstance(head.in_channels, list)
    head.update(in_channels=[channels] * 4 if several else channels, num_classes=CLASSES, norm_cfg=norm,
                channels=channels if head.type == 'FCNHead' else 8)
    if several:
        model.neck.update(embed_dim=channels, norm_cfg=norm)
        model.auxiliary_head.update(in_channels=channels, channels=8, num_classes=CLASSES, norm_cfg=norm)
    if model.test_cfg.mode == 'slide':
        model.test_cfg.update(crop_size=size, stride=tuple(length * 2 // 3 for length in size))


def tiny_detector(model: ConfigDict, size: tuple[int, int], channels: int) -> None:
    model.data_preprocessor.img_size = size
    model.neck.update(backbone_channel=channels, in_channels=[channels // 4, channels // 2, channels, channels])
    if 'rpn_head' in model:
        model.neck.out_channels = 8
        model.rpn_head.update(in_channels=8, feat_channels=8)
        for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
            extractor.out_channels = 8
        model.roi_head.bbox_head.update(in_channels=8, conv_out_channels=8, fc_out_channels=8, num_classes=CLASSES)
        model.roi_head.mask_head.update(in_channels=8, conv_out_channels=8, num_convs=1, num_classes=CLASSES)
        model.test_cfg.rcnn.update(score_thr=0., max_per_img=5)
        for proposals in (model.test_cfg.rpn, model.train_cfg.rpn_proposal):
            proposals.update(nms_pre=50, max_per_img=10)
    else:
        model.neck.out_channels = 32
        model.num_queries, model.positional_encoding.num_feats = 10, 16
        for coder in (model.encoder, model.decoder):
            coder.num_layers = 1
            for part in coder.layer_cfg.values():
                part.embed_dims = 32
                if 'feedforward_channels' in part:
                    part.feedforward_channels = 32
        model.bbox_head.update(num_classes=CLASSES, embed_dims=32)
        model.test_cfg.max_per_img = 5


def build(cfg: Config, seed: int = 0) -> nn.Module:
    init_default_scope(cfg.default_scope)
    torch.manual_seed(seed)
    registry = MMSEG_MODELS if cfg.default_scope == 'mmseg' else MMDET_MODELS
    model = registry.build(copy.deepcopy(cfg.model))
    model.init_weights()    # until then, mmdet's DINO has parameters in memory that nobody has written
    return model


def batch(cfg: Config, size: tuple[int, int]) -> dict:
    """Two images of ``size``, annotated at the base resolution."""
    base = cfg.model.backbone.img_size
    if cfg.default_scope == 'mmdet':
        masks = 'roi_head' in cfg.model
        return demo_mm_inputs(2, [[3, *size]] * 2, num_items=[2, 2], num_classes=CLASSES, with_mask=masks)
    return images_with_masks(size, base, CLASSES)


def step(model: nn.Module, cfg: Config) -> set[str]:
    """The tensors that a training step of the recipe changes, with the recipe's own optimiser."""
    before = copy.deepcopy(model.state_dict())
    settings = copy.deepcopy(cfg.optim_wrapper)
    settings.type = 'OptimWrapper'    # AMP is for GPUs
    optim_wrapper = build_optim_wrapper(model, settings)
    # Eight images: in a step that mixes resolutions, at least one for each kernel.
    images = {key: values * 4 for key, values in batch(cfg, cfg.model.backbone.img_size).items()}
    assert model.train().train_step(images, optim_wrapper)['loss'].isfinite()
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


def predicted(model: nn.Module, cfg: Config, size: tuple[int, int]) -> list:
    with torch.no_grad():
        return model.eval().test_step(batch(cfg, size))


def assert_whole(samples: list, cfg: Config) -> None:
    for sample in samples:
        if cfg.default_scope == 'mmseg':
            assert tuple(sample.pred_sem_seg.data.shape[1:]) == cfg.model.backbone.img_size
        else:
            assert len(sample.pred_instances)
            assert sample.pred_instances.bboxes.isfinite().all()


@every_recipe
def test_a_base_recipe_trains_a_step_and_predicts(recipe):
    cfg = tiny(recipe)
    model = build(cfg)
    changed = step(model, cfg)
    trained = {key.split('.')[0] for key in changed}
    frozen = cfg.model.backbone.get('frozen')
    assert ('backbone' in trained) is not frozen
    assert trained >= ({'decode_head'} if cfg.default_scope == 'mmseg' else {'neck'})
    assert not any('.kernels.' in key for key in model.state_dict())
    assert_whole(predicted(model, cfg, cfg.model.backbone.img_size), cfg)


@every_recipe
def test_its_twin_tunes_the_kernels_alone_and_predicts_at_half_the_resolution(recipe):
    base, cfg = tiny(recipe), tiny(twin_of(recipe))
    stock, model = randomize(build(base)), build(cfg, seed=1)
    model.load_state_dict(stock.state_dict(), strict=True)
    size = cfg.model.backbone.img_size
    x = torch.randn(1, 3, *size)
    model.eval(), stock.eval()
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model.extract_feat(x), stock.extract_feat(x)))
    changed = step(model, cfg)
    assert changed == {key for key in model.state_dict() if '.kernels.' in key} != set()
    half = tuple(length // 2 for length in size)
    assert find_patch_embed(model).token_grid(half) == (TOKENS, TOKENS)
    assert_whole(predicted(model, cfg, half), cfg)


@every_recipe
def test_the_twin_is_the_model_of_the_recipe_and_loads_what_it_saves(recipe):
    base, twin = load(recipe), load(twin_of(recipe))
    assert twin.model.type == f'MSPE{base.model.type}'
    own = dict(type=None, tuning=None)
    layer = dict.fromkeys(['kernel_sizes', 'context', 'kernel_policy', 'parameterization', 'downsampling', 'pretrained'])
    if twin.model.test_cfg.get('mode') == 'slide':
        assert twin.model.test_cfg.pop('scale') == base.test_dataloader.dataset.pipeline[1].scale
    assert {**twin.model, **own, 'backbone': {**twin.model.backbone, **layer}} == {
        **base.model, **own, 'backbone': {**base.model.backbone, **layer}}
    length = base.train_cfg.get('max_iters') or base.train_cfg.max_epochs
    assert twin.load_from == f'work_dirs/{recipe}/{"iter" if "max_iters" in base.train_cfg else "epoch"}_{length}.pth'
    assert base.model.backbone.kernel_sizes[-1:] == twin.model.backbone.kernel_sizes[-1:]
    assert set(base.custom_imports.imports) <= set(twin.custom_imports.imports)
    size = tuple(base.model.backbone.img_size)
    assert size == tuple(base.get('crop_size') or base.image_size)
    if base.model.backbone.get('pretrained'):
        assert base.model.backbone.model_name in timm.list_pretrained()
