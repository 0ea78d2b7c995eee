"""A backbone without a head: what is compared with the teacher, and where its adapter loads."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers import noise, randomize
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from timm_families import FAMILIES, backbone, config, detector, segmentor, stock_vit
from torch import Tensor, nn

from mspe_mm import InputError
from mspe_mm.backbones import MSPEFeatureModel
from mspe_mm.models.adapter import base_digest, load_adapter, save_adapter
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.models.find import find_patch_embed

MIXED = dict(type='MixedResolutionObjective', sampling='partition')
PREFIX = {'DINOv2': 1, 'DINOv2 with registers': 5, 'DINOv3': 5, 'SAM': 0, 'SigLIP 2': 0, 'CLIP': 1, 'EVA-02': 1}
families = pytest.mark.parametrize('family', PREFIX)


def model_of(family: str, tuning: dict | None = MIXED, **changes) -> MSPEFeatureModel:
    """A bare backbone with the weights of ``stock_vit``."""
    init_default_scope('mmengine')
    built = MODELS.build(dict(type='MSPEFeatureModel', tuning=tuning, backbone=dict(
        type='MSPETimmViT', **config(family, **changes))))
    built.backbone.load_state_dict(backbone(family, **changes).state_dict())
    return built


def image(size: tuple[int, ...], batch: int = 2, seed: int = 0) -> Tensor:
    return noise(batch, 3, *size, dtype=torch.float32, seed=seed)


def timms_tokens(vit: nn.Module, x: Tensor) -> list[Tensor]:
    """All outputs of the two blocks of timm's model: the maps, and where there are any the tokens outside of the grid."""
    kwargs = dict(return_prefix_tokens=True) if getattr(vit, 'num_prefix_tokens', 0) else {}
    outputs = vit.forward_intermediates(x, norm=True, intermediates_only=True, **kwargs)
    return [tokens for output in outputs for tokens in (output if kwargs else [output])]


@families
def test_features_are_all_tokens_of_timm_at_the_base_resolution(family):
    x = image(FAMILIES[family].size)
    model = model_of(family).eval()
    randomize(find_patch_embed(model).kernels)
    features, expected = model.features(x), timms_tokens(stock_vit(family), x)
    assert len(features) == len(expected) == (4 if PREFIX[family] else 2)
    assert all(torch.equal(a, b) for a, b in zip(features, expected))
    assert sum(tokens.shape[1] for tokens in features if tokens.ndim == 3) == 2 * PREFIX[family]


@families
def test_the_loss_is_the_relative_distance_to_timms_features(family):
    """At the native resolution of one kernel, which nothing is drawn for; the student is timm's model with that kernel."""
    patch, size = FAMILIES[family].patch, FAMILIES[family].size
    model = model_of(family, dict(MIXED, sampling='native'), kernel_sizes=(patch // 2, patch)).train()
    layer = model.mspe_layer
    randomize(layer.kernels)
    x = image(size)
    losses = model.loss(x, [None, None])
    small = layer.downsampling.resize(x, tuple(length // 2 for length in size))
    teacher = timms_tokens(stock_vit(family), x)
    with layer.force_kernel(0), torch.no_grad():
        student = model.features(small)
    distances = [((s.double() - t.double()).norm() / t.double().norm()) ** 2 for s, t in zip(student, teacher)]
    expected = sum(distances) / len(distances)
    assert losses.keys() == {'loss_distill'}
    assert losses['loss_distill'].item() == pytest.approx(expected.item(), rel=1e-5)


@families
@pytest.mark.parametrize('tuning', [MIXED, {}])
def test_a_step_moves_the_kernels_alone(family, tuning):
    model = model_of(family, tuning).train()
    randomize(model.mspe_layer.kernels)    # those that are not tuned have no loss, and no gradient, at the base resolution
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(model.loss(image(FAMILIES[family].size, batch=4), [None] * 4).values()).backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if '.kernels.' in name}


def test_mixed_resolutions_are_one_pass_of_the_student():
    model = model_of('DINOv3').train()
    seen = []
    model.backbone.vit.blocks[0].register_forward_hook(
        lambda _, args, __: seen.append((len(args[0]), torch.is_grad_enabled())))
    model.loss(image(FAMILIES['DINOv3'].size, batch=4), [None] * 4)
    assert seen == [(4, False), (4, True)]    # the teacher's, then the student's


def test_kernels_of_another_token_grid_are_compared_on_the_teachers():
    model = model_of('DINOv2', MIXED, token_grids=[(2, 3)]).train()
    torch.manual_seed(1)
    for _ in range(4):    # a grid is drawn in every step
        losses = model.loss(image(FAMILIES['DINOv2'].size), [None, None])
        losses['loss_distill'].backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if '.kernels.' in name and 'g2x3' in name)


# -- Where the adapter goes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize('build', [segmentor, detector])
@pytest.mark.parametrize('family', ['DINOv2 with registers', 'DINOv3', 'SAM'])
def test_the_adapter_loads_on_models_with_a_head_on_the_backbone(family, build, tmp_path):
    model, whole = model_of(family), build(family)
    whole.backbone.load_state_dict(backbone(family).state_dict())
    randomize(model.mspe_layer.kernels)
    save_adapter(model.mspe_layer, tmp_path / 'adapter.safetensors')
    assert base_digest(model.mspe_layer) == base_digest(find_patch_embed(whole))
    load_adapter(find_patch_embed(whole), tmp_path / 'adapter.safetensors')
    half = image(tuple(length // 2 for length in FAMILIES[family].size))
    maps = [tokens for tokens in model.eval().features(half) if tokens.ndim == 4]
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(maps, whole.eval().backbone(half)))
    stranger = build(family)
    stranger.backbone.load_state_dict(backbone(family, seed=1).state_dict())
    with pytest.raises(InputError, match='it was tuned with the base kernel'):
        load_adapter(find_patch_embed(stranger), tmp_path / 'adapter.safetensors')


def test_the_checkpoint_of_a_segmentor_loads_without_its_head(tmp_path):
    whole = randomize(segmentor('DINOv3'))
    torch.save(dict(state_dict=whole.state_dict()), tmp_path / 'segmentor.pth')
    model = model_of('DINOv3')
    load_weights(model, str(tmp_path / 'segmentor.pth'))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())
    torch.save(dict(state_dict=segmentor('DINOv2').state_dict()), tmp_path / 'other.pth')
    with pytest.raises(InputError, match=r'other\.pth is not of this model'):
        load_weights(model, str(tmp_path / 'other.pth'))


# -- Predictions -------------------------------------------------------------------------------------------------------


def test_predictions_are_the_features_of_each_image_whatever_its_size():
    model = model_of('DINOv3').eval()
    base = FAMILIES['DINOv3'].size
    random = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=random, dtype=torch.uint8)
              for size in (base, tuple(length // 2 for length in base))]
    samples = model.test_step(dict(inputs=images, data_samples=[BaseDataElement(), BaseDataElement()]))
    for sample, one in zip(samples, images):
        expected = model.features(model.data_preprocessor(dict(inputs=[one]), False)['inputs'])
        assert [tokens.shape for tokens in sample.features] == [tokens.shape[1:] for tokens in expected]
        assert all(torch.allclose(a, b[0], atol=1e-4) for a, b in zip(sample.features, expected))


# -- Other backbones ---------------------------------------------------------------------------------------------------


def test_a_stock_backbone_of_mmseg_is_tuned_bare():
    """Its features are the maps of the four stages."""
    init_default_scope('mmseg')
    model = MODELS.build(dict(
        type='MSPEFeatureModel', tuning={}, data_preprocessor=dict(type='ImgDataPreprocessor'),
        patch_embed=dict(base_resolution=(64, 96)),
        backbone=dict(type='mmseg.MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])))
    randomize(model).train()
    losses = model.loss(image((64, 96)), [None, None])
    assert losses.keys() == {f'k{k}.loss_distill' for k in model.mspe_layer.own_sizes}
    sum(losses.values()).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if '.kernels.' in name}
    assert [level.shape[2:] for level in model.features(image((64, 96)))] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_the_class_token_of_a_backbone_of_mmseg_is_compared_too():
    init_default_scope('mmseg')
    model = MODELS.build(dict(
        type='MSPEFeatureModel', tuning={}, data_preprocessor=dict(type='ImgDataPreprocessor'),
        patch_embed=dict(base_resolution=(64, 64)),
        backbone=dict(type='mmseg.VisionTransformer', img_size=(64, 64), embed_dims=16, num_layers=2, num_heads=2,
                      with_cls_token=True, output_cls_token=True)))
    assert [tuple(tokens.shape) for tokens in model.features(image((32, 32)))] == [(2, 16, 4, 4), (2, 16)]
    assert model.train().loss(image((64, 64)), [None, None])['k4.loss_distill'] > 0


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('settings', 'sentence'), [
    (dict(tuning=dict(objective='task')), "has no head, and tuning.objective='task' needs one: set tuning.objective='dist"),
    (dict(tuning=dict(MIXED, objective='both')), "has no head, and tuning.objective='both' needs one"),
    (dict(backbone=dict(type='mmseg.MixVisionTransformer'), patch_embed=dict(base_resolution=64)),
     'the mean and standard deviation of MixVisionTransformer are not known: give model.data_preprocessor'),
])
def test_settings_without_a_meaning_for_a_bare_backbone_are_refused(settings, sentence):
    init_default_scope('mmseg')
    with pytest.raises(InputError, match=sentence):
        MODELS.build(dict(dict(type='MSPEFeatureModel', backbone=dict(type='MSPETimmViT', **config('DINOv3'))), **settings))


def test_training_without_tuning_is_refused():
    with pytest.raises(InputError, match=r'MSPEFeatureModel has no head and no losses of its own: give tuning=dict\(\)'):
        model_of('DINOv3', None).train().loss(image(FAMILIES['DINOv3'].size), [None, None])
