"""The MSPE layer on overlapping patches against the stock embeddings of SegFormer, PVT v2 and MViT v2."""
import math

import pytest
import torch
import torch.nn.functional as F
from helpers import layer_of, noise, randomize, relative_error, timm_resample
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.layers import PatchEmbed as MMDetPatchEmbed
from mmseg.models.utils import PatchEmbed as MMSegPatchEmbed
from timm.models.mvitv2 import PatchEmbed as MViTPatchEmbed
from timm.models.pvt_v2 import OverlapPatchEmbed
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.models.adapter import load_adapter, save_adapter

GRID = (12, 16)
BASE = (48, 64)
parameterizations = pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])


def make_layer(**settings) -> MultiScalePatchEmbed:
    """A small untrained layer, 7 px kernels on 4 px patches, base resolution 48 x 64."""
    return layer_of(**{**dict(embed_dims=8, patch_size=4, base_kernel=7, grid_size=GRID), **settings})


def tuned(layer: MultiScalePatchEmbed) -> MultiScalePatchEmbed:
    randomize(layer.kernels)
    return layer


def image(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return noise(batch, 3, height, width, dtype=torch.float32)


# -- Parameters --------------------------------------------------------------------------------------------------------


def test_the_kernels_are_the_papers_for_pvt_v2_by_default():
    layer = make_layer()
    assert layer.kernel_sizes == (1, 2, 3, 4)
    assert {k: tuple(kernel.weight.shape) for k, kernel in layer.kernels.items()} == {
        '1': (8, 3, 3, 3), '2': (8, 3, 5, 5), '3': (8, 3, 7, 7)}
    assert (layer.base.kernel_size, layer.base.stride, layer.base.padding) == ((7, 7), (4, 4), (3, 3))
    assert layer.base_resolution == BASE
    paper = MultiScalePatchEmbed(patch_size=4, base_kernel=7, grid_size=56, embed_dims=64)
    assert [k * paper.grid_size[0] for k in paper.kernel_sizes] == [56, 112, 168, 224]


@pytest.mark.parametrize(('settings', 'culprit'), [
    (dict(base_kernel=8), '8 px on patches of 4 px'), (dict(base_kernel=3), '3 px on patches of 4 px'),
    (dict(padding='same'), "padding='corner', got 'same'"), (dict(padding=None), "padding='corner', got None")])
def test_settings_that_make_no_sense_are_refused_by_name(settings, culprit):
    with pytest.raises(ValueError, match=culprit):
        make_layer(**settings)


# -- At the base resolution it is the stock layer ----------------------------------------------------------------------


@parameterizations
@pytest.mark.parametrize('stock', [
    lambda: MMSegPatchEmbed(3, 8, kernel_size=7, stride=4, padding=3, norm_cfg=dict(type='LN')),
    lambda: MMDetPatchEmbed(3, 8, kernel_size=7, stride=4, padding=3, norm_cfg=dict(type='LN')),
    lambda: MMSegPatchEmbed(3, 8, kernel_size=7, stride=4, padding=3, bias=False)])
def test_at_the_base_resolution_it_is_mms_patch_embed_bit_for_bit(parameterization, stock):
    stock = randomize(stock())
    layer = make_layer(parameterization=parameterization, proj_name='projection', bias=stock.projection.bias is not None,
                       norm=nn.LayerNorm(8) if stock.norm else None)
    layer.load_state_dict(stock.state_dict(), strict=True)
    tokens, grid = tuned(layer)(image(*BASE))
    expected, expected_grid = stock(image(*BASE))
    assert torch.equal(tokens, expected)
    assert grid == expected_grid == GRID


@parameterizations
def test_at_the_base_resolution_it_is_timms_patch_embeds_bit_for_bit(parameterization):
    stock = randomize(OverlapPatchEmbed(7, 4, 3, 8))
    layer = make_layer(parameterization=parameterization, norm=nn.LayerNorm(8), layout='NHWC', with_grid=False)
    layer.load_state_dict(stock.state_dict(), strict=True)
    assert torch.equal(tuned(layer)(image(*BASE)), stock(image(*BASE)))
    stock = randomize(MViTPatchEmbed(3, 8))
    layer = make_layer(parameterization=parameterization)
    layer.load_state_dict(stock.state_dict(), strict=True)
    tokens, grid = tuned(layer)(image(*BASE))
    expected, expected_grid = stock(image(*BASE))
    assert torch.equal(tokens, expected)
    assert grid == tuple(expected_grid)


@given(st.integers(1, 70), st.integers(1, 70))
def test_constant_is_the_stock_layer_at_every_resolution(height, width):
    stock = nn.Conv2d(3, 8, 7, stride=4, padding=3)
    layer = make_layer(kernel_policy='constant')
    layer.base.load_state_dict(stock.state_dict())
    tokens, grid = tuned(layer)(image(height, width, batch=1))
    expected = stock(image(height, width, batch=1))
    assert grid == tuple(expected.shape[-2:]) == layer.token_grid((height, width))
    assert torch.equal(tokens, expected.flatten(2).mT)


# -- Any resolution ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12))
def test_fixed_keeps_the_grid_at_every_multiple_of_it(k_height, k_width):
    layer = tuned(make_layer())
    size = (k_height * GRID[0], k_width * GRID[1])
    assert layer.kernel_size(size) == (k_height, k_width)
    assert layer(image(*size, batch=1))[1] == layer.token_grid(size) == GRID


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from(['fixed', 'isotropic']),
       st.sampled_from(['native', 'residual', 'relative']))
def test_images_of_any_size_are_embedded_on_the_grid_foretold(height, width, policy, parameterization):
    layer = tuned(make_layer(kernel_policy=policy, parameterization=parameterization))
    tokens, grid = layer(image(height, width, batch=1))
    assert grid == layer.token_grid((height, width))
    assert tokens.shape == (1, grid[0] * grid[1], 8)
    assert tokens.isfinite().all()


@parameterizations
@pytest.mark.parametrize(('k', 'pad'), [(1, (1, 4)), (2, (1, 2)), (8, (0, 0))])
def test_untrained_it_is_the_stock_kernel_resized_by_timm_where_it_lies(parameterization, k, pad):
    """A quarter, a half and twice the base resolution: windows of 12, 10 and 7 px become 3, 5 and 14 px."""
    layer = make_layer(parameterization=parameterization)
    x = image(k * GRID[0], k * GRID[1])
    extent = layer.geometry.kernel(k)
    weight = timm_resample(F.pad(layer.base.weight, (*pad, *pad)), (extent, extent), 'bilinear', True)
    before = math.ceil(3 * k / 4)
    padded = F.pad(x, (before, extent, before, extent))    # more than is needed: the rest is cut off
    expected = F.conv2d(padded, weight, layer.base.bias, stride=k)[..., :GRID[0], :GRID[1]].flatten(2).mT
    assert relative_error(layer(x)[0], expected) < 1e-5


@pytest.mark.parametrize('k', [4, 5, 6, 7, 8, 9, 12, 16])
def test_on_larger_images_a_token_is_that_of_its_window_in_the_base_image(k):
    """Eq. 5, and that kernels lie in the right place: one window is resized alone and put where it belongs."""
    layer = make_layer().double()
    row, column = 5, 7
    before, after = layer.geometry.reach(k)
    unit = 4 // math.gcd(4, k)    # windows whose edges line up are multiples of this many pixels of the base image
    start, length = unit * math.ceil(3 / unit), unit * (math.ceil(3 / unit) + math.ceil(4 / unit))
    window = noise(1, 3, length, length)
    base_image, large_image = torch.zeros(1, 3, *BASE).double(), torch.zeros(1, 3, k * GRID[0], k * GRID[1]).double()
    for target, p, patch in ((base_image, 4, window), (large_image, k, F.interpolate(
            window, (length * k // 4, ) * 2, mode='bilinear', antialias=True))):
        top, left = (index * p - start * p // 4 for index in (row, column))
        target[..., top:top + patch.shape[-1], left:left + patch.shape[-1]] = patch
    tokens = [layer(x)[0].unflatten(1, GRID)[0, row, column] for x in (base_image, large_image)]
    assert before <= start * k // 4
    assert after <= (length - start) * k // 4
    torch.testing.assert_close(tokens[1], tokens[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('size', [(12, 16), (24, 32), (36, 48), BASE, (96, 128), (24, 64)])
def test_the_kernel_of_the_nearest_native_resolution_embeds_the_image(size):
    layer = tuned(make_layer(parameterization='native'))
    index = layer.kernel_index(size)
    k = layer.kernel_size(size)
    nearest = min(range(4), key=lambda i: ((i + 1) * 12 - size[0])**2 + ((i + 1) * 16 - size[1])**2)
    assert index == nearest
    own = layer.base if index == 3 else layer.kernels[str(index + 1)]
    native = (index + 1, index + 1)
    weight = own.weight if k == native else layer.geometry.resize(own.weight, k, native)
    assert all(torch.equal(a, b) for a, b in zip(layer.sized_kernel(k, index), (weight, own.bias)))


@pytest.mark.parametrize('policy', ['constant', 'fixed', 'isotropic'])
def test_a_single_kernel_layer_is_the_baseline_of_the_pretrained_kernel(policy):
    layer = tuned(make_layer(norm=randomize(nn.LayerNorm(8)), layout='NHWC', with_grid=False)).eval()
    fresh = make_layer(norm=layer.norm, layout='NHWC', with_grid=False, kernel_policy=policy).eval()
    fresh.base.load_state_dict(layer.base.state_dict())
    for size in [(12, 16), (24, 64), BASE, (96, 128)]:
        torch.testing.assert_close(layer.single_kernel(policy)(image(*size)), fresh(image(*size)))


def test_layers_that_share_the_base_share_its_geometry_and_correlation():
    layer = tuned(make_layer(layout='NHWC', with_grid=False, correlation=0.9)).eval()
    fresh = make_layer(layout='NHWC', with_grid=False, correlation=0.9, kernel_sizes=(3, 4)).eval()
    fresh.base.load_state_dict(layer.base.state_dict())
    fresh.reset_kernels()
    shared, x = layer.sharing_base(kernel_sizes=(3, 4)), image(24, 32)
    assert torch.equal(shared(x), fresh(x))
    assert torch.equal(layer.single_kernel('fixed', 0.9)(x), fresh(x))
    assert not torch.equal(layer.single_kernel('fixed')(x), fresh(x))
    with pytest.raises(ValueError, match='takes 12 x 16 only'):
        make_layer(strict_grid=True).sharing_base(kernel_policy='constant')(x)


@parameterizations
def test_a_kernel_that_is_set_is_the_one_that_embeds(parameterization):
    layer = make_layer(parameterization=parameterization).double().eval()
    weight, bias = noise(8, 3, 5, 5), noise(8)
    layer.set_kernel(2, weight, bias)
    x = image(24, 32).double()
    torch.testing.assert_close(layer(x)[0], F.conv2d(x, weight, bias, stride=2, padding=2).flatten(2).mT)


# -- Hosts of one grid -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('settings', 'size', 'grid'), [
    (dict(), (25, 32), '13 x 16'), (dict(base_kernel=None, padding=None), (23, 32), '23 x 16'),
    (dict(kernel_policy='constant'), (24, 32), '6 x 8')])
def test_a_strict_grid_refuses_other_images_with_the_sizes_that_it_takes(settings, size, grid):
    layer = make_layer(strict_grid=True, **settings)
    assert layer(image(*BASE))[1] == GRID
    with pytest.raises(ValueError, match=f'{size[0]} x {size[1]} px has {grid} tokens.*12 x 16 only.*multiple of 12 x 16'):
        layer(image(*size))


# -- State dicts and adapters ------------------------------------------------------------------------------------------


@parameterizations
@pytest.mark.parametrize('tune_base', [False, True])
def test_an_adapter_round_trips(tmp_path, parameterization, tune_base):
    settings = dict(parameterization=parameterization, tune_base=tune_base)
    layer, other = make_layer(**settings), make_layer(**settings)
    other.base.load_state_dict(layer.base.state_dict())
    other.reset_kernels()
    save_adapter(tuned(layer), tmp_path / 'adapter.safetensors')
    load_adapter(other, tmp_path / 'adapter.safetensors')
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in layer.state_dict().items())


@parameterizations
def test_an_untouched_layer_is_not_tuned_and_a_touched_one_is(parameterization):
    layer = make_layer(parameterization=parameterization)
    assert not layer.is_tuned()
    layer.kernels['2'].weight.data[0, 0, 0, 0] += 0.1
    assert layer.is_tuned()


@parameterizations
def test_gradients_reach_the_kernel_of_the_resolution(parameterization):
    layer = make_layer(parameterization=parameterization)
    layer(image(12, 16))[0].square().sum().backward()
    assert layer.kernels['1'].weight.grad.abs().sum() > 0
    assert layer.kernels['2'].weight.grad is None
