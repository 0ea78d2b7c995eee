"""Conversion of the hosts' models, against the hosts themselves. The table of docs/models.md is what passes here."""
from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from helpers import noise, randomize, relative_error
from mmseg.models.backbones import MixVisionTransformer, ResNet, VisionTransformer
from model_zoo import (
    MODELS,
    at_patch,
    base_resolution,
    first_embedding,
    layer_in,
    outputs,
    resized_by_timm,
    stock_model,
)
from torch import nn

import mspe_mm
from mspe_mm import InputError, convert_patch_embed
from mspe_mm.core import MultiResolutionObjective, freeze_all_but_kernels, pi_resize, tuning_mode
from mspe_mm.models.adapter import load_adapter, save_adapter
from mspe_mm.models.convert import following_base
from mspe_mm.models.find import find_patch_embed

every_model = pytest.mark.parametrize('name', MODELS)
PATCHES = {16: (4, 8, 12, 32), 14: (4, 7, 11, 28), 4: (1, 2, 3, 8)}    # 1/4, 1/2, 3/4 and 2x; of 14 px rounded up


def image(size: tuple[int, int], batch: int = 2, seed: int = 0) -> torch.Tensor:
    return noise(batch, 3, *size, dtype=torch.float32, seed=seed)


def converted(name: str, seed: int = 0, **settings) -> nn.Module:
    model = stock_model(name, seed)
    convert_patch_embed(model, base_resolution(name), **settings)
    return model.requires_grad_(False)


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


def patch_sizes(name: str) -> tuple[int, ...]:
    return PATCHES[MODELS[name][0]]


# -- The columns of the table ------------------------------------------------------------------------------------------


@every_model
def test_base_output_bit_identical(name):
    """Weights loaded before conversion, and after it by ``strict=True``; tuned kernels change nothing there."""
    stock, before, after = stock_model(name), converted(name), converted(name, seed=1)
    state = stock.state_dict()
    after.load_state_dict(state, strict=True)
    x = image(base_resolution(name))
    expected = outputs(stock, x)
    for model in (before, after):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
        assert not layer_in(model).is_tuned()
        randomize(layer_in(model).kernels)
        assert same(outputs(model, x), expected)
    assert set(before.state_dict()) - set(state) == {
        key for key in before.state_dict() if re.search(r'\.kernels\.\d+\.(weight|bias)$', key)}


@every_model
def test_grid_kept_at_quarters_and_twice_the_resolution(name):
    model = converted(name)
    shapes = [tokens.shape for tokens in outputs(model, image(base_resolution(name)))]
    for patch in patch_sizes(name):
        assert [tokens.shape for tokens in outputs(model, image(at_patch(name, patch)))] == shapes
        assert layer_in(model).kernel_size(at_patch(name, patch)) == (patch, patch)


@every_model
def test_untrained_it_is_the_hosts_weights_resized_by_timm(name):
    stock, model = stock_model(name), converted(name)
    overlaps = layer_in(model).geometry.overlaps
    for patch in patch_sizes(name):
        if overlaps and patch == 3:    # the 7 px of a kernel at 3/4 are no whole number of px at the base
            continue
        x = image(at_patch(name, patch))
        reference = resized_by_timm(stock, patch)
        tokens, expected = (first_embedding(m)(x) for m in (model, reference))
        tokens, expected = (t[0] if isinstance(t, tuple) else t for t in (tokens, expected))
        assert relative_error(tokens, expected) < 1e-5, patch
        for features, expected in zip(outputs(model, x), outputs(reference, x)):
            assert relative_error(features, expected) < 1e-4, patch


@every_model
def test_an_image_of_the_same_content_gives_the_same_at_another_resolution(name):
    """Where shrinking by areas loses nothing, nothing is lost, in any stage and up to the border."""
    model = converted(name, interpolation='area')
    patch_size, size = MODELS[name][0], base_resolution(name)
    for block in (2, ) if patch_size == 14 else (2, 4):
        small = image(tuple(length // block for length in size))
        whole = small.repeat_interleave(block, 2).repeat_interleave(block, 3)
        for features, expected in zip(outputs(model, small), outputs(model, whole)):
            assert relative_error(features, expected) < 1e-4, block
    doubled = image(size).repeat_interleave(2, 2).repeat_interleave(2, 3)
    for features, expected in zip(outputs(model, doubled), outputs(model, image(size))):
        assert relative_error(features, expected) < 1e-4


@every_model
def test_tuned_end_to_end_it_moves_the_kernels_alone(name):
    """One step of Eq. 7 on all resolutions at once: gradients reach theta, and nothing else changes."""
    model = converted(name)
    layer = layer_in(model)
    freeze_all_but_kernels(model, layer)
    model.train()
    tuning_mode(model, layer)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = MultiResolutionObjective()(
        layer, image(base_resolution(name)), lambda x: dict(loss=[t.square().mean() for t in outputs(model, x)]))
    sum(sum(terms) for terms in losses.values()).backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {key for key in before if '.kernels.' in key}
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == reached


@every_model
def test_adapter_round_trip(name, tmp_path):
    path = tmp_path / 'adapter.safetensors'
    model, other, stranger = converted(name), converted(name), converted(name, seed=1)
    randomize(layer_in(model).kernels)
    save_adapter(find_patch_embed(model), path)
    load_adapter(find_patch_embed(other), path)
    x = image(at_patch(name, patch_sizes(name)[0]))
    assert same(outputs(other, x), outputs(model, x))
    before = outputs(stranger, x)
    with pytest.raises(InputError, match='does not fit this checkpoint'):
        load_adapter(find_patch_embed(stranger), path)
    assert same(outputs(stranger, x), before)


def test_the_documentation_says_what_passes():
    text = (Path(__file__).parents[2] / 'docs/models.md').read_text()
    text = text[text.index('| model |'):].split('\n\n')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('| ')]
    assert rows[0] == ['model', 'patch (kernel, if larger)', 'base output bit-identical', 'grid kept at 1/4, 1/2, 3/4, 2×',
                       'tuned end to end', 'adapter round trip']
    models = dict((row[0], row[1:]) for row in rows[1:])
    assert list(models) == list(MODELS)
    for name, cells in models.items():
        geometry = layer_in(converted(name)).geometry
        size = f'{geometry.patch_size}' + (f' ({geometry.kernel_size})' if geometry.overlaps else '')
        assert cells == [size, *['yes'] * 4]


# -- Adapters of other models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('tuned', 'other', 'reason'), [
    ('timm `vit_*`', 'timm `deit3_*`', 'does not fit this checkpoint'),
    ('mmseg `VisionTransformer`', 'timm `vit_*`', 'does not fit this checkpoint'),
    ('mmdet `SwinTransformer`', 'mmdet `PyramidVisionTransformerV2`', 'embed_dims'),
    ('mmseg `MixVisionTransformer`', 'mmseg `SwinTransformer`', 'embed_dims'),
    ('mmseg `BEiT`', 'timm `eva02_*` (patch 14)', 'patch_size')])
def test_the_adapter_of_another_model_is_refused(tmp_path, tuned, other, reason):
    path = tmp_path / 'adapter.safetensors'
    save_adapter(find_patch_embed(converted(tuned)), path)
    model = converted(other, seed=2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=reason):
        load_adapter(find_patch_embed(model), path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# -- Settings ----------------------------------------------------------------------------------------------------------


def test_it_is_the_packages_own_name():
    assert mspe_mm.convert_patch_embed is convert_patch_embed


@every_model
def test_default_kernels_are_the_quarters_of_the_hosts_patch(name):
    layer = layer_in(converted(name))
    assert layer.kernel_sizes == {16: (4, 8, 12, 16), 14: (4, 7, 11, 14), 4: (1, 2, 3, 4)}[layer.patch_size]


def test_settings_reach_the_layer_and_it_is_found_and_returned():
    model = stock_model('mmseg `MixVisionTransformer`')
    layer = convert_patch_embed(model, (32, 64), (2, 4), kernel_policy='isotropic', parameterization='native',
                                tune_base=True, interpolation='area')
    assert layer is model.layers[0][0] is find_patch_embed(model)
    assert (layer.kernel_sizes, layer.kernel_policy, layer.downsampling.interpolation) == ((2, 4), 'isotropic', 'area')
    assert (layer.parameterization, list(layer.kernels)) == ('native', ['2', '4'])
    assert [type(stage[0]).__name__ for stage in model.layers[1:]] == ['PatchEmbed'] * 3
    assert torch.equal(layer.kernels['2'].bias, layer.base.bias)


@pytest.mark.parametrize('name', ['timm `vit_*`', 'timm `swin_*`', 'mmseg `BEiT`', 'mmseg `VisionTransformer`'])
def test_the_base_resolution_is_the_hosts_own_where_it_states_one(name):
    model = stock_model(name)
    assert convert_patch_embed(model).base_resolution == base_resolution(name)


def test_one_number_is_a_square():
    assert convert_patch_embed(stock_model('timm `pvt_v2_*`'), 64).base_resolution == (64, 64)


@pytest.mark.parametrize('mode', [True, False])
def test_dtype_mode_and_parameters_of_the_host_are_kept(mode):
    model = stock_model('timm `vit_*`').bfloat16()
    model.train(mode)
    conv = model.patch_embed.proj
    layer = convert_patch_embed(model)
    assert layer.base is conv
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}
    assert all(module.training == mode for module in layer.modules())


@pytest.mark.parametrize(('name', 'settings', 'sentence'), [
    ('timm `pvt_v2_*`', {}, 'PyramidVisionTransformerV2 does not say.*base_resolution='),
    ('mmseg `MixVisionTransformer`', dict(base_resolution=(30, 64)),
     r'4 px for MixVisionTransformer\.layers\.0\.0, got 30 x 64'),
    ('timm `pvt_v2_*`', dict(base_resolution=(64, )), r'one number or \(height, width\), got \(64,\)'),
    ('timm `vit_*`', dict(base_resolution=96), 'does not take an image of 96 x 96 px.*64'),
    ('mmseg `BEiT`', dict(kernel_sizes=(4, 8)), 'include the patch size 16'),
    ('mmseg `BEiT`', dict(kernel_size=(4, 8)), "no setting 'kernel_size': did you mean 'kernel_sizes'"),
    ('mmseg `BEiT`', dict(interpolation='lanczos'), "interpolation 'lanczos'"),
])
def test_settings_that_do_not_fit_are_refused_and_the_model_is_left_as_it_was(name, settings, sentence):
    model = stock_model(name)
    before = outputs(model, image(base_resolution(name)))
    with pytest.raises(InputError, match=sentence):
        convert_patch_embed(model, **settings)
    assert same(outputs(model, image(base_resolution(name))), before)


@pytest.mark.parametrize('padding', ['corner', 'same'])
@pytest.mark.parametrize('size', [(16, 24), (17, 30), (70, 100)])
def test_mmsegs_padding_of_a_rest_is_kept(padding, size):
    stock = VisionTransformer(img_size=(64, 96), embed_dims=32, num_layers=1, num_heads=2, patch_pad=padding)
    stock.eval()
    embedding = stock.patch_embed
    layer = convert_patch_embed(stock, kernel_policy='constant')
    assert layer.host.padding == padding
    assert torch.equal(layer(image(size))[0], embedding(image(size))[0])


# -- What timm's models read -------------------------------------------------------------------------------------------


def test_timms_dynamic_image_sizes_go_through_the_layer():
    """A stock model that resamples its position table for any image, as the baseline needs it."""
    model = timm.create_model('vit_tiny_patch16_224', img_size=64, embed_dim=32, depth=2, num_heads=2, num_classes=5,
                              dynamic_img_size=True, dynamic_img_pad=True)
    model = randomize(model).eval().requires_grad_(False)
    stock = copy.deepcopy(model)
    layer = convert_patch_embed(model, kernel_policy='constant')
    assert (layer.host.layout, layer.host.padding, layer.host.strict_grid) == ('NHWC', 'corner', False)
    for size in [(64, 64), (32, 48), (50, 70)]:
        assert same(outputs(model, image(size)), outputs(stock, image(size)))
    assert layer.dynamic_feat_size((50, 70)) == stock.patch_embed.dynamic_feat_size((50, 70))
    assert (layer.num_patches, layer.img_size) == (stock.patch_embed.num_patches, stock.patch_embed.img_size)
    assert layer.feat_ratio() == stock.patch_embed.feat_ratio()
    assert layer.feat_ratio(as_scalar=False) == stock.patch_embed.feat_ratio(as_scalar=False)


@pytest.mark.parametrize('name', ['timm `vit_*`', 'timm `swin_*`', 'timm `eva02_*` (patch 14)', 'timm `beitv2_*`'])
def test_timms_set_input_size_moves_the_base_resolution(name):
    model, stock = converted(name), stock_model(name)
    larger = tuple(2 * length for length in base_resolution(name))
    for m in (model, stock):
        m.set_input_size(img_size=larger)
    assert layer_in(model).base_resolution == larger
    assert same(outputs(model.requires_grad_(False), image(larger)), outputs(stock.requires_grad_(False), image(larger)))


@pytest.mark.parametrize(('size', 'sentence'), [(dict(patch_size=8), 'patch size is 16 px.*cannot make it 8'),
                                               (dict(img_size=100), 'whole patches of 16 px, got 100 x 100')])
def test_timms_set_input_size_refuses_what_is_not_the_layers_to_change(size, sentence):
    model = converted('timm `vit_*`')
    with pytest.raises(InputError, match=sentence):
        model.set_input_size(**size)


def test_an_image_off_the_grid_of_a_strict_model_is_refused_with_the_sizes_that_fit():
    with pytest.raises(ValueError, match=r'7 x 40 px has 7 x 6 tokens.*4 x 6 only.*multiple of 4 x 6 px'):
        converted('timm `vit_*`', fit='floor')(image((7, 40)))


# -- What cannot be converted ------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """An embedding that does more than its convolution."""

    def __init__(self, conv=None):
        super().__init__()
        self.proj = conv or nn.Conv2d(3, 8, 16, stride=16)
        self.norm = nn.Dropout()

    def forward(self, x):
        return 2 * self.proj(x).flatten(2).transpose(1, 2)


class Mirrored(Scaled):

    def forward(self, x):
        return self.proj(x.flip(-1)).flip(-1).flatten(2).transpose(1, 2)


class Listed(Scaled):

    def forward(self, x):
        return self.proj(x), None


def model_of(embedding: nn.Module) -> nn.Module:
    return nn.ModuleDict(dict(embedding=embedding, head=nn.Linear(8, 2)))


@pytest.mark.parametrize(('build', 'sentence'), [
    (lambda: ResNet(18), 'ResNet cannot.*conv1, has bn1.*layer1.*not for CNNs'),
    (lambda: timm.create_model('convnext_atto'), r'ConvNeXt cannot.*stem\.0'),
    (lambda: timm.create_model('levit_128s'), r'LevitDistilled cannot.*stem\.conv1\.linear, has bn'),
    (lambda: timm.create_model('xcit_nano_12_p16_224'), r'Xcit cannot.*patch_embed\.proj\.0\.0'),
    (lambda: timm.create_model('vit_tiny_r_s16_p8_224'), r'VisionTransformer cannot.*patch_embed\.backbone'),
    (lambda: timm.create_model('efficientformer_l1'), r'EfficientFormer cannot.*stem\.conv1, has.*conv2'),
    (lambda: timm.create_model('pit_ti_224'), r'kernel \(16, 16\), stride \(8, 8\)'),
    (lambda: timm.create_model('crossvit_9_240'), r'patch_embed\.0, patch_embed\.1 all see the image'),
    (lambda: timm.create_model('hiera_tiny_224'), 'Hiera cannot.*takes more than an image'),
    (lambda: nn.Sequential(nn.Linear(3, 3)), 'Sequential cannot.*no convolution'),
    (lambda: nn.Conv2d(3, 8, 16, stride=16), 'Conv2d cannot'),
    (lambda: model_of(Scaled()), 'Scaled computes more than a convolution'),
    (lambda: model_of(Mirrored()), 'Mirrored computes more than a convolution'),
    (lambda: model_of(Listed()), 'Listed computes more than a convolution'),
    (lambda: model_of(Scaled(nn.Conv2d(3, 8, (16, 8), stride=(16, 8)))), r'kernel \(16, 8\).*Patches must be square'),
    (lambda: model_of(Scaled(nn.Conv2d(3, 8, 16, stride=16, padding=1))), r'padding \(1, 1\)'),
    (lambda: model_of(Scaled(nn.Conv2d(3, 9, 16, stride=16, groups=3))), 'groups 3'),
    (lambda: model_of(Scaled(nn.Conv2d(3, 8, 8, stride=16))), r'kernel \(8, 8\), stride \(16, 16\)'),
    (lambda: converted('timm `vit_*`'), 'VisionTransformer has an MSPE patch embedding already'),
])
def test_what_cannot_be_converted_is_refused_with_the_reason(build, sentence):
    model = build()
    before = {name: module.training for name, module in model.named_modules()}
    with pytest.raises(InputError, match=sentence):
        convert_patch_embed(model, 224)
    assert {name: module.training for name, module in model.named_modules()} == before


# -- Kernels follow a base kernel that the host draws anew -------------------------------------------------------------


@pytest.mark.parametrize('parameterization', ['native', 'residual'])
def test_kernels_follow_a_base_kernel_drawn_anew_unless_they_were_loaded(parameterization):
    model = MixVisionTransformer(embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4)
    layer = convert_patch_embed(model, 64, parameterization=parameterization)
    before = layer.base.weight.clone()
    with following_base(layer):
        model.init_weights()
    assert not torch.equal(layer.base.weight, before)
    assert not layer.is_tuned()
    tuned = randomize(copy.deepcopy(model), seed=3).state_dict()
    with following_base(layer):
        model.load_state_dict(tuned)
    assert all(torch.equal(value, tuned[key]) for key, value in model.state_dict().items())


def test_a_whole_kernel_is_carried_over_by_pi_resize():
    layer = convert_patch_embed(stock_model('timm `vit_*`'), parameterization='native')
    assert torch.equal(layer.kernels['4'].weight, pi_resize(layer.base.weight, (4, 4)))
