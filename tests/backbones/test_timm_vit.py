"""MSPETimmViT against timm's own models. The second table of docs/models.md is what passes here."""
from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from helpers import noise, randomize, relative_error, saved_bytes
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS as MMSEG_MODELS
from safetensors.torch import save_file
from timm_families import CLASSES, FAMILIES, GRID, SMALL, backbone, config, detector, images_with_masks, segmentor, stock_vit
from torch import nn

import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm import InputError
from mspe_mm.backbones import MSPETimmViT
from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.models.adapter import load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed

every_family = pytest.mark.parametrize('family', FAMILIES)


def image(size: tuple[int, ...], batch: int = 2, seed: int = 0) -> torch.Tensor:
    return noise(batch, 3, *size, dtype=torch.float32, seed=seed)


def part(family: str, factor: float) -> tuple[int, int]:
    return tuple(round(length * factor) for length in FAMILIES[family].size)


def same(a, b) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


# -- The columns of the table ------------------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize('norm', [True, False])
def test_base_output_bit_identical(family, norm):
    """Whatever the kernels are tuned to; all that the model lacks of timm's is the classifier and the pooling before it."""
    stock, model = stock_vit(family), backbone(family, norm=norm)
    removed = stock.state_dict().keys() - model.vit.state_dict().keys()
    assert all(re.match(r'head\.|fc_norm\.|attn_pool\.' + ('' if norm else r'|norm\.|neck\.'), name) for name in removed)
    randomize(find_patch_embed(model).kernels)
    x = image(FAMILIES[family].size)
    features = model(x)
    assert same(features, stock.forward_intermediates(x, norm=norm, intermediates_only=True))
    assert all(tuple(f.shape[-2:]) == GRID for f in features)
    assert all(f.is_contiguous() for f in features)    # for mmcv's RoIAlign, which reads other layouts wrongly


@every_family
def test_grid_kept_at_every_size(family):
    model = backbone(family)
    shapes = [f.shape for f in model(image(FAMILIES[family].size))]
    for factor in (0.25, 0.5, 0.75, 2, 0.37, 1.3):
        assert [f.shape for f in model(image(part(family, factor)))] == shapes


@pytest.mark.parametrize(('tokens', 'whole'), [(37, (148, 185, 222, 259, 296)), (16, (64, 80, 96, 112))])
def test_patches_of_14_px_keep_the_grid_at_every_size_and_the_image_at_the_sizes_of_the_documentation(tokens, whole):
    layer = MultiScalePatchEmbed(embed_dims=1, patch_size=14, grid_size=tokens)
    sizes = [(length, length) for length in range(1, 3 * 14 * tokens)]
    assert {layer.token_grid(size) for size in sizes} == {(tokens, tokens)}
    unchanged = [height for height, width in sizes if layer.fitted_size((height, width)) == (height, width)]
    assert [length for length in unchanged if whole[0] <= length <= whole[-1]] == list(whole)
    assert ', '.join(map(str, whole)) in ' '.join((Path(__file__).parents[2] / 'docs/models.md').read_text().split())


@every_family
def test_positions_are_those_of_the_base_grid(family):
    """An image of twice the resolution and the same content gives the same maps, up to the border."""
    model = backbone(family, downsampling=dict(interpolation='area'))
    x = image(FAMILIES[family].size)
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for features, expected in zip(model(doubled), model(x)):
        assert relative_error(features, expected) < 1e-4


@every_family
def test_adapter_round_trip(family, tmp_path):
    path = tmp_path / 'adapter.safetensors'
    model, other, stranger = backbone(family), backbone(family), backbone(family, seed=1)
    randomize(find_patch_embed(model).kernels)
    save_adapter(find_patch_embed(model), path)
    load_adapter(find_patch_embed(other), path)
    x = image(part(family, 0.5))
    assert same(other(x), model(x))
    with pytest.raises(InputError, match='does not fit this checkpoint'):
        load_adapter(find_patch_embed(stranger), path)


def changed_by_a_step(model: nn.Module, data: dict) -> set[str]:
    """The tensors that one step of training changes."""
    randomize(model)
    before = copy.deepcopy(model.state_dict())
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))
    assert model.train().train_step(data, optim_wrapper)['loss'].isfinite()
    return {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}


@every_family
def test_in_a_segmentor_a_step_moves_the_kernels_alone_and_images_of_any_size_are_segmented(family):
    model, size = segmentor(family), FAMILIES[family].size
    changed = changed_by_a_step(model, images_with_masks(size, size))
    assert changed == {key for key in model.state_dict() if '.kernels.' in key} != set()
    with torch.no_grad():
        predictions = model.eval().test_step(images_with_masks(part(family, 0.5), size))
    assert all(tuple(sample.pred_sem_seg.data.shape[1:]) == size for sample in predictions)


@every_family
def test_in_a_detector_a_step_moves_the_kernels_alone_and_images_of_any_size_have_boxes(family):
    model, size = detector(family), FAMILIES[family].size
    changed = changed_by_a_step(model, demo_mm_inputs(2, [[3, *size]] * 2, num_items=[2, 2], num_classes=CLASSES))
    assert changed == {key for key in model.state_dict() if '.kernels.' in key} != set()
    with torch.no_grad():
        samples = model.eval().test_step(demo_mm_inputs(2, [[3, *part(family, 0.5)]] * 2, num_classes=CLASSES))
    assert all(sample.pred_instances.bboxes.isfinite().all() for sample in samples)
    assert sum(len(sample.pred_instances) for sample in samples) > 0


def test_the_documentation_says_what_passes():
    text = (Path(__file__).parents[2] / 'docs/models.md').read_text()
    lines = text[text.index('| family |'):].split('\n\n')[0].splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if not line.startswith('|-')]
    assert rows[0] == ['family', 'weights in timm, for example', 'patch', 'base output bit-identical',
                       'grid kept at 1/4, 1/2, 3/4, 2×', 'gradients to the kernels alone', 'adapter round trip',
                       'works in a segmentor', 'works in a detector']
    assert [row[0] for row in rows[1:]] == list(FAMILIES)
    published = set(timm.list_pretrained())
    for family, weights, patch, *columns in rows[1:]:
        name = weights.strip('`')
        assert name in published
        assert type(timm.create_model(name.partition('.')[0], **FAMILIES[family].kwargs)) is type(stock_vit(family))
        assert (patch, columns) == (str(FAMILIES[family].patch), ['yes'] * 6)


# -- Weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'img_size', 'model_kwargs'), [
    ('vit_base_patch14_dinov2', 518, {}), ('vit_base_patch16_dinov3', 512, {}),
    ('samvit_base_patch16', 512, dict(img_size=1024))])
def test_the_published_names_and_shapes_load_strictly(name, img_size, model_kwargs, tmp_path):
    """The first block of the published width; the names and shapes are timm's."""
    published = timm.create_model(name, depth=1).state_dict()
    save_file(published, tmp_path / 'published.safetensors')
    model = MSPETimmViT(name, img_size, model_kwargs=dict(depth=1, **model_kwargs),
                        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'published.safetensors')))
    model.init_weights()
    state = {key: value for key, value in model.vit.state_dict().items() if '.kernels.' not in key}
    assert state.keys() <= published.keys()
    assert all(torch.equal(value, published[key]) for key, value in state.items())
    assert published.keys() - state.keys() <= {'head.weight', 'head.bias', 'fc_norm.weight', 'fc_norm.bias'}
    assert not find_patch_embed(model).is_tuned()


def test_a_table_for_another_size_is_resampled_as_timm_does(tmp_path):
    path, name = str(tmp_path / 'square.pth'), FAMILIES['DINOv2'].name
    torch.save(randomize(timm.create_model(name, img_size=70, **SMALL)).state_dict(), path)
    model = MSPETimmViT(**config('DINOv2', init_cfg=dict(type='Pretrained', checkpoint=path)))
    model.init_weights()
    expected = timm.create_model(name, img_size=FAMILIES['DINOv2'].size, pretrained=True,
                                 pretrained_cfg_overlay=dict(file=path), **SMALL)
    assert torch.equal(model.vit.pos_embed, expected.pos_embed)
    assert torch.equal(model.vit.blocks[1].mlp.fc2.weight, expected.blocks[1].mlp.fc2.weight)


def test_blocks_after_the_last_map_are_neither_kept_nor_loaded(tmp_path):
    stock = stock_vit('DINOv3')
    save_file(stock.state_dict(), tmp_path / 'weights.safetensors')
    model = MSPETimmViT(**config('DINOv3', out_indices=(-2, ), init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'weights.safetensors'))))
    model.init_weights()
    assert (model.out_indices, len(model.vit.blocks)) == ((0, ), 1)
    x = image(FAMILIES['DINOv3'].size)
    expected = stock.forward_intermediates(x, indices=[0], norm=True, intermediates_only=True)
    assert same(model.eval().requires_grad_(False)(x), expected)


def test_pretrained_asks_timm_for_the_weights_of_the_name(tmp_path):
    torch.save(stock_vit('DINOv3').state_dict(), tmp_path / 'hub.pth')
    kwargs = dict(FAMILIES['DINOv3'].kwargs, pretrained_cfg_overlay=dict(file=str(tmp_path / 'hub.pth')))
    model = MSPETimmViT(**config('DINOv3', pretrained=True, model_kwargs=kwargs))
    assert not torch.equal(model.vit.cls_token, stock_vit('DINOv3').cls_token)    # not before a training
    model.init_weights()
    assert torch.equal(model.vit.cls_token, stock_vit('DINOv3').cls_token)


def test_without_pretrained_weights_those_of_timm_stay():
    model = MSPETimmViT(**config('SAM'))
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize('change', ['a tensor is missing', 'of another width', 'no file'])
def test_weights_of_another_model_are_refused(change, tmp_path):
    path = tmp_path / 'weights.pth'
    kwargs = dict(SMALL, embed_dim=64) if change == 'of another width' else SMALL
    state = timm.create_model(FAMILIES['DINOv2'].name, img_size=FAMILIES['DINOv2'].size, **kwargs).state_dict()
    if change == 'a tensor is missing':
        del state['blocks.1.norm1.weight']
    if change != 'no file':
        torch.save(state, path)
    model = MSPETimmViT(**config('DINOv2', init_cfg=dict(type='Pretrained', checkpoint=str(path))))
    expected = {'a tensor is missing': r'Missing key.*blocks\.1\.norm1\.weight', 'of another width': 'size mismatch',
                'no file': 'does not exist'}[change]
    with pytest.raises(InputError, match=expected):
        model.init_weights()


# -- Training ----------------------------------------------------------------------------------------------------------


def test_a_frozen_backbone_does_not_train_and_stays_in_eval_mode():
    model = MSPETimmViT(**config('DINOv3', frozen=True, drop_path_rate=0.5)).train()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.vit.modules())
    tuned = segmentor('DINOv3')
    tuned.backbone.frozen = True
    trained = {module for module in tuned.train().backbone.modules() if module.training} - {tuned.backbone}
    assert trained <= set(find_patch_embed(tuned).modules())


@every_family
def test_drop_path_rises_to_its_rate(family):
    model = MSPETimmViT(**config(family, drop_path_rate=0.3))
    found = [module.drop_prob for module in model.modules() if type(module).__name__ == 'DropPath']
    assert found == [pytest.approx(0.3)] * 2    # of the last of two blocks


@pytest.mark.parametrize('family', ['DINOv2', 'DINOv3', 'SAM'])
def test_recomputed_blocks_have_the_same_gradient_in_less_memory(family):
    gradients, peaks = [], []
    for with_cp in (False, True):
        model = backbone(family, with_cp=with_cp).requires_grad_(True).train()
        with saved_bytes(model) as count:
            sum(f.square().mean() for f in model(image(FAMILIES[family].size))).backward()
        gradients.append([p.grad for name, p in model.named_parameters() if '.kernels.' not in name])
        peaks.append(count.peak)
    for gradient, expected in zip(*gradients):
        assert relative_error(gradient, expected) < 1e-5
    assert peaks[1] < peaks[0] / 2


def test_the_learning_rate_decays_from_layer_to_layer():
    model = segmentor('DINOv2 with registers').requires_grad_(True)
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='MSPELayerDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, num_layers=2),
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))).optimizer
    found = {id(p): (group['lr'], group['weight_decay']) for group in optimizer.param_groups for p in group['params']}
    vit = model.backbone.vit
    expected = [(vit.pos_embed, 1e-3 / 8, 0), (vit.reg_token, 1e-3 / 8, 0), (vit.patch_embed.proj.weight, 1e-3 / 8, 0.1),
                (vit.blocks[0].norm1.weight, 1e-3 / 4, 0), (vit.blocks[1].mlp.fc1.weight, 1e-3 / 2, 0.1),
                (model.decode_head.conv_seg.weight, 1e-3, 0.1)]
    assert [found[id(p)] for p, _, _ in expected] == [pytest.approx(values) for _, *values in expected]


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('changes', 'sentence'), [
    (dict(img_size=512), 'whole patches of 14 px for vit_small_patch14_dinov2, got 512 x 512: the nearest such size is '
                         '518 x 518'),
    (dict(out_indices=(1, 0)), r'ascending order, of 0 to 1.*got \(1, 0\)'),
    (dict(out_indices=(0, 2)), r'of 0 to 1.*got \(0, 2\)'),
    (dict(out_indices=()), r'got \(\)'),
    (dict(kernel_size=(4, 7)), "no setting 'kernel_size': did you mean 'kernel_sizes'"),
    (dict(model_name='vit_small_patch14_dino2'), "no model 'vit_small_patch14_dino2': did you mean"),
    (dict(model_name='swin_tiny_patch4_window7_224', model_kwargs={}, img_size=224), 'is a SwinTransformer, and.*plain'),
    (dict(model_name='resnet18', model_kwargs={}, img_size=224), 'timm cannot make resnet18.*img_size'),
    (dict(init_cfg=dict(type='TruncNormal')), r"init_cfg of MSPETimmViT is dict\(type='Pretrained'"),
    (dict(model_kwargs=dict(SMALL, img_size=70)), r'VisionTransformer\._pos_embed works at one image size only.*56 x 84'),
])
def test_settings_that_do_not_fit_are_refused_by_name(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        MSPETimmViT(**config('DINOv2', **changes))


def test_it_is_one_class_for_both_hosts():
    assert MMSEG_MODELS.get('MSPETimmViT') is MMDET_MODELS.get('MSPETimmViT') is MSPETimmViT
