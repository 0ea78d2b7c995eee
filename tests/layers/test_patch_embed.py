"""The MSPE layer against stock patch embeddings, timm's FlexiViT, and itself without a cache."""
import copy
import math
import pickle
from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, in_threads, layer_of, noise, randomize, relative_error, timm_resample, unit_of
from hypothesis import given
from hypothesis import strategies as st
from mmseg.models.utils import PatchEmbed as MMSegPatchEmbed
from timm.layers import PatchEmbed as TimmPatchEmbed
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed, pi_resize
from mspe_mm.layers import patch_embed as patch_embed_module
from mspe_mm.layers.choice import Choice, choice_for
from mspe_mm.layers.downsampling import Downsampling

GRID = (3, 4)
BASE = (48, 64)
parameterizations = pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])
sides = st.one_of(st.integers(1, 20), st.integers(21, 150))


def make_layer(**settings) -> MultiScalePatchEmbed:
    """A small untrained layer: 8 channels out, base resolution 48 x 64."""
    return layer_of(**{**dict(embed_dims=8, grid_size=GRID), **settings})


def tuned(layer: MultiScalePatchEmbed) -> MultiScalePatchEmbed:
    """The layer with kernels that are not their initial values any more."""
    randomize(layer.kernels)
    return layer


def image(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return noise(batch, 3, height, width, dtype=torch.float32)


def embed(x, weight, bias, padding='corner'):
    """A plain patch embedding by F.conv2d, padded as mmseg's."""
    h, w = weight.shape[-2:]
    bottom, right = -x.shape[-2] % h, -x.shape[-1] % w
    if padding == 'corner':
        x = F.pad(x, (0, right, 0, bottom))
    if padding == 'same':
        x = F.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
    return F.conv2d(x, weight, bias, stride=(h, w)).flatten(2).mT


# -- Parameters --------------------------------------------------------------------------------------------------------


def test_four_kernels_of_vit_b_hold_1108992_parameters():
    layer = MultiScalePatchEmbed(3, 768, 16, 14, (4, 8, 12, 16))
    kernels = [*layer.base.parameters(), *layer.kernels.parameters()]
    assert sum(p.numel() for p in kernels) == sum(p.numel() for p in layer.parameters()) == 1_108_992
    assert sum(p.numel() for p in layer.base.parameters()) == 590_592


def test_the_kernels_are_the_sizes_asked_for_and_the_base_one_is_added_only_to_be_tuned():
    assert list(make_layer().kernels) == ['4', '8', '12']
    assert list(make_layer(tune_base=True).kernels) == ['4', '8', '12', '16']
    assert list(make_layer(patch_size=14, kernel_sizes=(7, 14, 20)).kernels) == ['7', '20']
    assert all(k.bias is None for k in make_layer(bias=False).kernels.values())


@pytest.mark.parametrize(('settings', 'culprit'), [
    (dict(kernel_sizes=()), 'kernel_sizes'),
    (dict(kernel_sizes=(8, 4, 16)), r'kernel_sizes.*\(8, 4, 16\)'),
    (dict(kernel_sizes=(4, 4, 16)), r'kernel_sizes.*\(4, 4, 16\)'),
    (dict(kernel_sizes=(0, 4, 16)), r'kernel_sizes.*\(0, 4, 16\)'),
    (dict(kernel_sizes=(4, 8)), r'kernel_sizes.*16.*\(4, 8\)'),
    (dict(patch_size=0, kernel_sizes=(0, )), 'patch_size.*0'),
    (dict(kernel_sizes=16.), r'kernel_sizes.*16\.0'),
    (dict(kernel_sizes=(4., 16)), r'kernel_sizes.*\(4\.0, 16\)'),
    (dict(embed_dims=0), 'embed_dims.*0'),
    (dict(in_channels=0), 'in_channels.*0'),
    (dict(grid_size=0), r'grid_size.*\(0, 0\)'),
    (dict(grid_size=(14, )), r'grid_size.*\(14,\)'),
    (dict(grid_size=(14, -1)), r'grid_size.*\(14, -1\)'),
    (dict(kernel_policy='square'), "kernel_policy 'square'.*isotropic"),
    (dict(parameterization='delta'), "parameterization 'delta'.*residual"),
    (dict(padding='reflect'), "padding 'reflect'.*corner"),
    (dict(interpolation='lanczos'), "interpolation 'lanczos'.*bicubic"),
    (dict(correlation=1), 'correlation.*got 1'),
])
def test_settings_that_make_no_sense_are_refused_by_name(settings, culprit):
    with pytest.raises(ValueError, match=culprit):
        make_layer(**settings)


# -- At the base resolution it is the stock layer ----------------------------------------------------------------------


@parameterizations
@pytest.mark.parametrize('bias', [True, False])
def test_at_the_base_resolution_it_is_conv2d_bit_for_bit(parameterization, bias):
    layer = tuned(make_layer(parameterization=parameterization, bias=bias))
    convolution = nn.Conv2d(3, 8, 16, stride=16, bias=bias)
    convolution.load_state_dict(layer.base.state_dict())
    for mode in (True, False):
        tokens, grid = layer.train(mode)(image(*BASE))
        assert torch.equal(tokens, convolution(image(*BASE)).flatten(2).mT)
        assert grid == GRID


@parameterizations
def test_at_the_base_resolution_it_is_timms_patch_embed_bit_for_bit(parameterization):
    stock = TimmPatchEmbed(BASE, 16, 3, 8)
    layer = make_layer(parameterization=parameterization)
    layer.load_state_dict(stock.state_dict(), strict=True)
    tuned(layer)
    assert torch.equal(layer(image(*BASE))[0], stock(image(*BASE)))


@parameterizations
@pytest.mark.parametrize('padding', ['corner', 'same'])
@pytest.mark.parametrize('norm', [False, True])
def test_at_the_base_resolution_it_is_mmsegs_patch_embed_bit_for_bit(parameterization, padding, norm):
    stock = MMSegPatchEmbed(3, 8, kernel_size=16, stride=16, padding=padding, norm_cfg=dict(type='LN') if norm else None)
    randomize(stock)
    layer = make_layer(parameterization=parameterization, padding=padding, proj_name='projection',
                       norm=nn.LayerNorm(8) if norm else None)
    layer.load_state_dict(stock.state_dict(), strict=True)
    tuned(layer)
    tokens, grid = layer(image(*BASE))
    expected, expected_grid = stock(image(*BASE))
    assert torch.equal(tokens, expected)
    assert grid == expected_grid


@pytest.mark.parametrize('size', [BASE, (16, 16), (17, 40), (5, 3), (100, 130)])
@pytest.mark.parametrize('padding', ['corner', 'same'])
def test_constant_is_the_stock_layer_at_every_resolution(size, padding):
    stock = MMSegPatchEmbed(3, 8, kernel_size=16, stride=16, padding=padding)
    layer = make_layer(kernel_policy='constant', padding=padding, proj_name='projection')
    layer.load_state_dict(stock.state_dict())
    tuned(layer)
    tokens, grid = layer(image(*size))
    expected, expected_grid = stock(image(*size))
    assert grid == expected_grid
    assert torch.equal(tokens, expected)


# -- Any resolution ----------------------------------------------------------------------------------------------------


@given(sides, sides, st.sampled_from(['fixed', 'isotropic']), st.sampled_from(['native', 'residual', 'relative']),
       st.sampled_from(['corner', 'same', None]))
def test_images_of_any_size_are_embedded_on_the_grid_foretold(height, width, policy, parameterization, padding):
    layer = tuned(make_layer(kernel_policy=policy, parameterization=parameterization, padding=padding))
    tokens, grid = layer(image(height, width, batch=1))
    assert grid == layer.token_grid((height, width))
    assert tokens.shape == (1, grid[0] * grid[1], 8)
    assert tokens.isfinite().all()


@given(sides, sides, st.sampled_from(['corner', 'same']))
def test_constant_embeds_images_of_any_size_on_the_grid_foretold(height, width, padding):
    layer = make_layer(kernel_policy='constant', padding=padding)
    tokens, grid = layer(image(height, width, batch=1))
    assert grid == layer.token_grid((height, width)) == (math.ceil(height / 16), math.ceil(width / 16))
    assert tokens.isfinite().all()


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(['corner', 'same', None]))
def test_fixed_keeps_the_grid_at_every_multiple_of_it(k_height, k_width, padding):
    layer = make_layer(padding=padding)
    size = (k_height * GRID[0], k_width * GRID[1])
    assert layer.kernel_size(size) == (k_height, k_width)
    assert layer(image(*size, batch=1))[1] == GRID


@pytest.mark.parametrize('size', [(24, 64), (30, 90), (160, 48)])
def test_isotropic_keeps_patches_square_and_chooses_their_kernel(size):
    layer = tuned(make_layer(kernel_policy='isotropic'))
    k = min(size[0] // GRID[0], size[1] // GRID[1])
    assert layer.kernel_size(size) == (k, k)
    native = layer.kernel_sizes[layer.kernel_index(size)]
    assert abs(native - k) == min(abs(other - k) for other in layer.kernel_sizes)
    weight, bias = layer.sized_kernel((k, k), layer.kernel_sizes.index(native))
    torch.testing.assert_close(layer(image(*size))[0], embed(image(*size), weight, bias))


@pytest.mark.parametrize('padding', ['corner', 'same', None])
@pytest.mark.parametrize('size', [(31, 50), (2, 70), (49, 63)])
def test_the_rest_beside_whole_patches_is_padded_as_asked(padding, size):
    layer = make_layer(padding=padding)
    weight = pi_resize(layer.base.weight, layer.kernel_size(size))
    torch.testing.assert_close(layer(image(*size))[0], embed(image(*size), weight, layer.base.bias, padding))


def test_the_base_resolution_is_the_patch_size_times_the_grid():
    assert make_layer().base_resolution == BASE
    assert MultiScalePatchEmbed(grid_size=14, embed_dims=8).base_resolution == (224, 224)


@pytest.mark.parametrize(('size', 'kernel'), [((12, 16), 4), ((17, 23), 4), ((18, 24), 8), ((36, 48), 12), ((500, 700), 16),
                                              ((1, 1), 4), ((24, 64), 12)])
def test_the_kernel_of_the_nearest_native_resolution_embeds_the_image(size, kernel):
    layer = tuned(make_layer(parameterization='native'))
    own = layer.base if kernel == 16 else layer.kernels[str(kernel)]
    weight = pi_resize(own.weight, layer.kernel_size(size))
    torch.testing.assert_close(layer(image(*size))[0], embed(image(*size), weight, own.bias))


def test_a_forced_kernel_is_used_within_its_context_alone():
    layer = tuned(make_layer(parameterization='native'))
    x = image(12, 16)
    chosen = layer(x)[0]
    with layer.force_kernel(2):
        with layer.force_kernel(3):
            torch.testing.assert_close(layer(x)[0], embed(x, pi_resize(layer.base.weight, (4, 4)), layer.base.bias))
        own = layer.kernels['12']
        torch.testing.assert_close(layer(x)[0], embed(x, pi_resize(own.weight, (4, 4)), own.bias))
    with pytest.raises(KeyError), layer.force_kernel(1):
        raise KeyError
    assert torch.equal(layer(x)[0], chosen)


# -- Untrained, it is FlexiViT -----------------------------------------------------------------------------------------

flexivit_models = pytest.mark.parametrize(('interpolation', 'antialias'), MODELS[:4])    # those that timm has too


@flexivit_models
def test_untrained_residual_is_timms_flexivit_at_every_resolution(interpolation, antialias):
    layer = make_layer(interpolation=interpolation, antialias=antialias)
    for size in [(12, 16), (15, 20), (30, 44), (48, 64), (7, 90), (57, 76), (96, 128), (3, 4), (1, 1)]:
        weight = timm_resample(layer.base.weight, layer.kernel_size(size), interpolation, antialias)
        assert relative_error(layer(image(*size))[0], embed(image(*size), weight, layer.base.bias)) < 1e-5, size


@flexivit_models
def test_untrained_native_is_timms_flexivit_at_the_native_resolutions(interpolation, antialias):
    layer = make_layer(interpolation=interpolation, antialias=antialias, parameterization='native')
    for k in layer.kernel_sizes:
        x = image(k * GRID[0], k * GRID[1])
        weight = timm_resample(layer.base.weight, (k, k), interpolation, antialias)
        assert relative_error(layer(x)[0], embed(x, weight, layer.base.bias)) < 1e-5


@pytest.mark.parametrize('parameterization', ['residual', 'relative'])
def test_the_resized_correction_is_added_to_the_resized_base_kernel(parameterization):
    layer = tuned(make_layer(interpolation='bicubic', parameterization=parameterization))
    x, own = image(15, 20), layer.kernels['4']
    unit = unit_of(layer)
    weight = timm_resample(layer.base.weight, (5, 5)) + unit * timm_resample(own.weight, (5, 5))
    assert relative_error(layer(x)[0], embed(x, weight, layer.base.bias + unit * own.bias)) < 1e-5


def test_steps_of_adam_are_in_proportion_to_the_pretrained_kernel_if_corrections_are_relative():
    stock, moved = make_layer(parameterization='relative').double(), {}
    for scale in (1., 0.125):
        layer = copy.deepcopy(stock)
        with torch.no_grad():
            layer.base.weight.mul_(scale)
            layer.base.bias.mul_(scale)
        before = layer.sized_kernel((4, 4), 0)
        optimizer = torch.optim.Adam(layer.kernels.parameters(), lr=1e-2, eps=0.)
        for _ in range(3):
            optimizer.zero_grad()
            (layer(image(12, 16).double())[0] / scale - 1.).square().mean().backward()
            optimizer.step()
        moved[scale] = [(a - b) / scale for a, b in zip(layer.sized_kernel((4, 4), 0), before)]
    unit = unit_of(stock)
    for one, other in zip(*moved.values()):
        assert 0.02 < one.abs().max() / unit < 0.04    # three steps of 1%
        torch.testing.assert_close(one, other)


@parameterizations
def test_a_tunable_base_kernel_starts_as_the_pretrained_one_and_is_used_at_the_base_resolution(parameterization):
    layer = make_layer(parameterization=parameterization, tune_base=True)
    assert torch.equal(layer(image(*BASE))[0], embed(image(*BASE), layer.base.weight, layer.base.bias))
    tuned(layer)
    own = layer.kernels['16']
    weight, bias = own.weight, own.bias
    if parameterization != 'native':
        unit = unit_of(layer)
        weight, bias = layer.base.weight + unit * weight, layer.base.bias + unit * bias
    assert torch.equal(layer(image(*BASE))[0], embed(image(*BASE), weight, bias))


@pytest.mark.parametrize('policy', ['constant', 'fixed', 'isotropic'])
def test_a_single_kernel_layer_is_the_baseline_of_the_pretrained_kernel(policy):
    layer = tuned(make_layer(proj_name='projection', norm=randomize(nn.LayerNorm(8)))).eval()
    baseline = layer.single_kernel(policy)
    assert baseline.base is layer.base
    assert not baseline.training
    for size in [(12, 16), (18, 30), BASE, (96, 128)]:
        fixed = (size[0] // 3, size[1] // 4)
        k = dict(constant=(16, 16), fixed=fixed, isotropic=(min(fixed), min(fixed)))[policy]
        expected = layer.norm(embed(image(*size), pi_resize(layer.base.weight, k), layer.base.bias))
        torch.testing.assert_close(baseline(image(*size))[0], expected)


def test_a_layer_that_shares_the_base_has_these_settings_but_for_the_changes():
    layer = tuned(make_layer(proj_name='projection', norm=nn.LayerNorm(8), interpolation='bicubic', antialias=False,
                             correlation=0.5, kernel_policy='isotropic', padding='same', tune_base=True)).double()
    other = layer.sharing_base(kernel_sizes=(5, 16))
    assert (other.base, other.norm) == (layer.base, layer.norm)
    assert other.extra_repr() == layer.extra_repr().replace('(4, 8, 12, 16)', '(5, 16)')
    assert (other.host.padding, other.host.proj_name) == ('same', 'projection')
    assert list(other.kernels) == ['5', '16']
    assert other.kernels['5'].weight.dtype == torch.float64
    assert not other.is_tuned()


@parameterizations
@pytest.mark.parametrize('bias', [True, False])
def test_a_kernel_that_is_set_is_the_one_used_at_its_size(parameterization, bias):
    layer = tuned(make_layer(parameterization=parameterization, bias=bias))
    weight, offset = noise(8, 3, 4, 4, dtype=torch.float32), noise(8, dtype=torch.float32) if bias else None
    others = {name: value.clone() for name, value in layer.state_dict().items() if 'kernels.4' not in name}
    layer.set_kernel(4, weight, offset)
    torch.testing.assert_close(layer(image(12, 16))[0], embed(image(12, 16), weight, offset), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in others.items())


@parameterizations
def test_kernels_are_resized_for_the_correlation_of_the_layer(parameterization):
    layer = make_layer(parameterization=parameterization, correlation=0.9)
    expected = pi_resize(layer.base.weight, (4, 4), correlation=0.9)
    assert torch.equal(layer(image(12, 16))[0], embed(image(12, 16), expected, layer.base.bias))
    assert torch.equal(layer.single_kernel('fixed', 0.9)(image(12, 16))[0], layer(image(12, 16))[0])
    assert not torch.equal(layer.single_kernel('fixed')(image(12, 16))[0], layer(image(12, 16))[0])    # FlexiViT's own


# -- State dicts -------------------------------------------------------------------------------------------------------


@parameterizations
@pytest.mark.parametrize('assign', [False, True])
def test_a_stock_state_dict_loads_strictly_and_sets_the_kernels(parameterization, assign):
    stock = TimmPatchEmbed(BASE, 16, 3, 8).state_dict()
    layer = tuned(make_layer(parameterization=parameterization))
    layer.load_state_dict(dict(stock), strict=True, assign=assign)
    fresh = make_layer(parameterization=parameterization)
    fresh.base.load_state_dict({'weight': stock['proj.weight'], 'bias': stock['proj.bias']})
    fresh.reset_kernels()
    for name, expected in fresh.state_dict().items():
        assert torch.equal(layer.state_dict()[name], expected), name
    if parameterization == 'native':
        assert relative_error(layer.kernels['8'].weight, pi_resize(stock['proj.weight'], (8, 8))) == 0
        assert torch.equal(layer.kernels['8'].bias, stock['proj.bias'])
    else:
        assert not any(p.any() for p in layer.kernels.parameters())


@parameterizations
@pytest.mark.parametrize('tune_base', [False, True])
@pytest.mark.parametrize('bias', [False, True])
def test_kernels_loaded_by_assignment_own_their_memory(parameterization, tune_base, bias):
    """Tuning them moves neither the pretrained kernel nor the caller's tensors."""
    layer = make_layer(parameterization=parameterization, tune_base=tune_base, bias=bias)
    state = {name: value.clone() for name, value in TimmPatchEmbed(BASE, 16, 3, 8, bias=bias).state_dict().items()}
    before = {name: value.clone() for name, value in state.items()}
    keys = list(state)
    layer.load_state_dict(state, strict=True, assign=True)
    storages = [tensor.untyped_storage().data_ptr() for tensor in layer.state_dict().values()]
    assert len(set(storages)) == len(storages)
    layer.base.requires_grad_(False)
    optimizer = torch.optim.SGD(layer.kernels.parameters(), lr=0.1)
    for index in range(len(layer.kernel_sizes)):
        with layer.force_kernel(index):
            out = layer(image(30, 40))[0]
        if out.requires_grad:
            out.square().mean().backward()
    optimizer.step()
    assert list(state) == keys
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


@parameterizations
def test_a_stock_state_dict_loads_below_other_modules_and_is_left_as_it_was(parameterization):
    stock = TimmPatchEmbed(BASE, 16, 3, 8)
    state = nn.ModuleDict(dict(patch_embed=stock, head=nn.Linear(8, 2))).state_dict()
    before = dict(state)
    model = nn.ModuleDict(dict(patch_embed=tuned(make_layer(parameterization=parameterization)), head=nn.Linear(8, 2)))
    model.load_state_dict(state, strict=True)
    assert dict(state) == before
    flexivit = embed(image(12, 16), pi_resize(stock.proj.weight, (4, 4)), stock.proj.bias)
    torch.testing.assert_close(model['patch_embed'](image(12, 16))[0], flexivit)


@parameterizations
@pytest.mark.parametrize('tune_base', [False, True])
def test_a_state_dict_with_kernels_round_trips(parameterization, tune_base):
    settings = dict(parameterization=parameterization, tune_base=tune_base)
    layer, other = tuned(make_layer(**settings)), make_layer(**settings)
    other.load_state_dict(layer.state_dict(), strict=True)
    assert layer.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in layer.state_dict().items())
    assert torch.equal(other(image(15, 20))[0], layer(image(15, 20))[0])


@pytest.mark.parametrize(('settings', 'culprit'), [
    (dict(embed_dims=6), r'proj\.weight'), (dict(kernel_sizes=(4, 16)), r'kernels\.8'),
    (dict(kernel_sizes=(2, 4, 8, 12, 16)), r'kernels\.2'), (dict(bias=False), r'proj\.bias')])
def test_a_state_dict_of_another_layer_is_refused_by_strict_loading(settings, culprit):
    with pytest.raises(RuntimeError, match=culprit):
        make_layer(**settings).load_state_dict(make_layer().state_dict(), strict=True)


def test_a_state_dict_without_the_patch_embedding_changes_nothing():
    layer = tuned(make_layer())
    before = copy.deepcopy(layer.state_dict())
    layer.load_state_dict({}, strict=False)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


# -- The cache ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def resizes(monkeypatch):
    """The sizes that the layer asked PI-resize for, as they come."""
    calls = []

    def counted(weight, size, *args):
        calls.append(size)
        return pi_resize(weight, size, *args)

    monkeypatch.setattr(patch_embed_module, 'pi_resize', counted)
    return calls


@torch.no_grad()
def test_in_eval_mode_a_kernel_is_resized_once_for_a_resolution(resizes):
    layer = tuned(make_layer()).eval()
    resizes.clear()
    for _ in range(3):
        for size in (15, 20), (30, 40):
            layer(image(*size))
    assert set(resizes) == {(5, 5), (10, 10)}
    assert len(resizes) == 4    # the base kernel and the correction, for either


def test_the_cache_is_used_in_a_frozen_layer_with_grad_enabled_too(resizes):
    layer = tuned(make_layer()).eval().requires_grad_(False)
    layer(image(15, 20))
    resizes.clear()
    layer(image(15, 20))
    assert not resizes


@torch.no_grad()
def test_in_training_mode_kernels_are_resized_anew(resizes):
    layer = make_layer().train()
    layer(image(15, 20))
    resizes.clear()
    layer(image(15, 20))
    assert resizes


@torch.no_grad()
def test_images_of_ever_new_sizes_do_not_fill_the_memory():
    layer = make_layer().eval()
    for k in range(1, 40):
        layer(image(3 * k, 4, batch=1))
    assert len(layer._cache) <= 16


def _step(layer):
    layer.requires_grad_(True)
    optimizer = torch.optim.SGD(layer.kernels.parameters(), lr=0.1)
    with torch.enable_grad():
        layer(image(15, 20))[0].square().mean().backward()
    optimizer.step()
    layer.requires_grad_(False)


def _load(layer):
    layer.load_state_dict(tuned(make_layer()).state_dict())


def _load_by_assignment(layer):
    layer.load_state_dict(tuned(make_layer()).state_dict(), assign=True)


def _load_kernels_alone(layer):
    layer.kernels.load_state_dict(tuned(make_layer()).kernels.state_dict())


def _copy(layer):
    layer.kernels['4'].weight.copy_(noise(8, 3, 4, 4))


def _copy_into_the_base(layer):
    layer.base.bias.copy_(noise(8))


def _copy_through_data(layer):
    layer.base.weight.data.copy_(noise(8, 3, 16, 16))


def _replace_data(layer):
    layer.base.weight.data = noise(8, 3, 16, 16, dtype=torch.float32)


def _replace_parameter(layer):
    layer.base.weight = nn.Parameter(noise(8, 3, 16, 16, dtype=torch.float32), requires_grad=False)


def _replace_module(layer):
    layer.kernels['4'] = tuned(make_layer()).kernels['4'].requires_grad_(False)


def _train_and_back(layer):
    layer.train()
    layer.base.weight.data.mul_(2)
    layer.eval()


def _to_double(layer):
    layer.double()


def _parts_to_double(layer):
    layer.base.double()
    layer.kernels.double()


def _base_to_double_and_back(layer):
    layer.base.double().weight.data.mul_(2)
    layer.base.float()


def _reset(layer):
    layer.reset_kernels()


@pytest.mark.parametrize('change', [
    _step, _load, _load_by_assignment, _load_kernels_alone, _copy, _copy_into_the_base, _copy_through_data, _replace_data,
    _replace_parameter, _replace_module, _train_and_back, _to_double, _parts_to_double, _base_to_double_and_back, _reset])
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_the_cache_is_never_stale(change, mode):
    layer = randomize(make_layer()).eval().requires_grad_(False)
    with mode():
        before = layer(image(15, 20))[0]
    with torch.no_grad():
        change(layer)
    x = image(15, 20).to(layer.base.weight.dtype)
    with mode():
        after = layer(x)[0]
    with torch.no_grad():
        assert torch.equal(after, copy.deepcopy(layer).train()(x)[0])    # in training mode nothing is cached
    assert not torch.equal(after, before.to(after.dtype))


@torch.no_grad()
@pytest.mark.parametrize('change', [
    dict(downsampling=Downsampling('area')), dict(downsampling=Downsampling(antialias=False)),
    dict(downsampling=Downsampling(correlation=0.9)), dict(parameterization='native')])
def test_the_cache_sees_settings_that_change_later(change):
    layer = tuned(make_layer()).eval().requires_grad_(False)
    before = layer(image(15, 20))[0]
    for name, value in change.items():
        setattr(layer, name, value)
    after = layer(image(15, 20))[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, copy.deepcopy(layer).train()(image(15, 20))[0])


@torch.no_grad()
def test_the_cache_holds_no_more_than_its_bytes():
    layer = tuned(make_layer()).eval()
    layer._cache.max_bytes = 3 * 10**5
    kept = []
    for k in (5, 10, 20, 30, 60, 7):    # a kernel of 60 px alone has 345,600 bytes
        expected = copy.deepcopy(layer).train()(image(3 * k, 4 * k))[0]
        assert torch.equal(layer(image(3 * k, 4 * k))[0], expected)
        assert layer._cache.nbytes <= 3 * 10**5
        kept.append(len(layer._cache))
    assert max(kept) > 1


@torch.no_grad()
def test_threads_embed_as_one_thread_does():
    layer = tuned(make_layer()).eval()
    sizes = [(3 * (1 + i % 23), 4 * (1 + i % 19)) for i in range(200)]    # more than the cache has entries
    expected = [layer(image(*size))[0] for size in sizes]

    def embedded(size):
        with torch.no_grad():
            return layer(image(*size))[0]

    assert all(torch.equal(a, e) for a, e in zip(in_threads(embedded, sizes), expected))


def test_what_is_forced_in_a_thread_does_not_reach_others():
    layer = tuned(make_layer()).eval().requires_grad_(False)
    contexts = [nullcontext, partial(layer.force_kernel, 0), partial(layer.force_kernel, 1), layer.pretrained_only,
                partial(layer.force_grid, (5, 5))]

    def embedded(context):
        with context():
            return layer(image(30, 40))[0]

    expected = [embedded(context) for context in contexts]
    assert len({(tuple(e.shape), e.sum().item()) for e in expected}) == len(expected)
    actual = in_threads(embedded, contexts * 40)
    assert all(torch.equal(a, e) for a, e in zip(actual, expected * 40))


def test_contexts_nest_in_the_order_in_which_they_are_entered():
    layer = make_layer()
    kernel = layer.force_kernel(1)
    with layer.force_grid((5, 5)), kernel:
        assert choice_for(layer) == Choice(kernel=1, grid=(5, 5))
    assert choice_for(layer) == Choice()


def replica_of(module: nn.Module, change: float) -> nn.Module:
    """What DataParallel makes of a module for another device: a shallow copy whose weights are plain attributes."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        replica._modules[name] = replica_of(child, change)
    for name, parameter in module.named_parameters(recurse=False):
        replica._parameters.pop(name, None)
        setattr(replica, name, parameter.detach() * change)
    return replica


@torch.no_grad()
def test_replicas_of_dataparallel_embed_by_their_own_weights():
    layer = tuned(make_layer()).eval()
    layer(image(15, 20))
    replicas = [replica_of(layer, 1 + i) for i in range(4)]
    assert not any(True for _ in replicas[0].parameters())
    sizes = [(15, 20), (30, 40), (9, 8)]
    expected = [[(1 + i) * layer(image(*size))[0] for size in sizes] for i in range(4)]

    def embedded(number):
        with torch.no_grad():
            return [replicas[number](image(*size))[0] for size in sizes]

    for number, outputs in zip([0, 1, 2, 3] * 10, in_threads(embedded, [0, 1, 2, 3] * 10, threads=4)):
        for actual, e in zip(outputs, expected[number]):
            torch.testing.assert_close(actual, e, rtol=1e-5, atol=1e-5)


def test_parameters_lent_by_functional_call_are_seen_and_not_remembered():
    layer = tuned(make_layer()).eval().requires_grad_(False)
    own = layer(image(15, 20))[0]
    other = tuned(make_layer()).requires_grad_(False)
    lent = torch.func.functional_call(layer, dict(other.named_parameters()), (image(15, 20), ))[0]
    assert torch.equal(lent, other(image(15, 20))[0])
    assert torch.equal(layer(image(15, 20))[0], own)


def test_a_kernel_cached_in_inference_mode_does_not_stand_in_the_way_of_training():
    layer = tuned(make_layer()).eval()
    with torch.inference_mode():
        seen = layer(image(15, 20))[0]
    layer.requires_grad_(False)
    x = image(15, 20).requires_grad_()
    layer(x)[0].sum().backward()    # saves the cached kernel for its backward pass
    assert x.grad.abs().sum() > 0
    layer.requires_grad_(True).train()
    tokens = layer(image(15, 20))[0]
    tokens.sum().backward()
    torch.testing.assert_close(tokens, seen)
    assert layer.kernels['4'].weight.grad.abs().sum() > 0


def test_a_layer_built_in_inference_mode_works_there():
    with torch.inference_mode():
        layer = make_layer().eval()
        tokens = layer(image(15, 20))[0]
        assert torch.equal(tokens, layer.train()(image(15, 20))[0])


@parameterizations
def test_gradients_reach_theta_in_eval_mode_with_a_filled_cache(parameterization):
    layer = tuned(make_layer(parameterization=parameterization)).eval()
    with torch.no_grad():
        layer(image(15, 20))
    layer(image(15, 20))[0].square().sum().backward()
    gradients = [p.grad.clone() for p in layer.kernels['4'].parameters()]
    layer.zero_grad()
    layer.train()(image(15, 20))[0].square().sum().backward()
    assert all(g.abs().sum() > 0 for g in gradients)
    assert all(torch.equal(g, p.grad) for g, p in zip(gradients, layer.kernels['4'].parameters()))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('requires_grad', [True, False])
@pytest.mark.parametrize('mode', [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_deepcopy_and_pickle_work_in_every_state(training, requires_grad, mode):
    layer = tuned(make_layer(norm=nn.LayerNorm(8))).train(training).requires_grad_(requires_grad)
    with mode():
        expected = layer(image(15, 20))[0].detach().clone()
        copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    for twin in copies:
        with mode():
            assert torch.equal(twin(image(15, 20))[0], expected)
            twin.base.weight.data.mul_(2)
            assert not torch.equal(twin(image(15, 20))[0], expected)
    with mode():
        assert torch.equal(layer(image(15, 20))[0], expected)


@torch.no_grad()
def test_the_cache_is_not_pickled():
    layer = make_layer().eval()
    size = len(pickle.dumps(layer))
    layer(image(15, 20))
    assert len(pickle.dumps(layer)) == size


def test_autocast_lowers_the_convolution_alone():
    """The resized kernel is the float32 one; casting it for the convolution is autocast's own affair."""
    layer = tuned(make_layer())
    x = image(15, 20)
    with torch.no_grad():
        weight, bias = layer.sized_kernel((5, 5), 0)
        for mode in (True, False):
            layer.train(mode)
            with torch.autocast('cpu', torch.bfloat16):
                tokens = layer(x)[0]
                assert tokens.dtype == torch.bfloat16
                assert torch.equal(tokens, embed(x, weight, bias))
            assert torch.equal(layer(x)[0], embed(x, weight, bias))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_the_whole_layer_runs_in_another_dtype(dtype):
    layer = tuned(make_layer()).eval()
    with torch.no_grad():
        expected = layer(image(15, 20))[0]
        tokens = layer.to(dtype)(image(15, 20).to(dtype))[0]
    assert tokens.dtype == dtype
    assert relative_error(tokens, expected) < 0.02
