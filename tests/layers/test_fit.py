"""fit='up' and 'nearest': every image size has the base token grid, at the cost of a pixel a patch, or half of one."""
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from helpers import noise, randomize
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.core import MultiScalePatchEmbed, fit_kernel, resize_image
from mspe_mm.layers.host_layout import HostLayout
from mspe_mm.layers.resize import refit_image
from mspe_mm.layers.resolution import fit_image

sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))
grids = st.tuples(st.integers(1, 64), st.integers(1, 64))


def tuned_layer(**settings):
    return randomize(MultiScalePatchEmbed(embed_dims=8, grid_size=(3, 4), **settings)).eval()


both = pytest.mark.parametrize('fit', ['up', 'nearest'])


def fitted(image_size, grid, policy='fixed', fit='nearest'):
    kernel = fit_kernel(image_size, grid, 16, policy, fit)
    return kernel, fit_image(image_size, kernel, grid, policy)


@given(sizes, grids)
def test_nearest_gives_every_size_the_base_grid_and_moves_it_by_half_a_pixel_a_patch_at_most(image_size, grid):
    kernel, size = fitted(image_size, grid)
    for length, k, tokens, whole in zip(image_size, kernel, grid, size):
        assert whole == k * tokens
        assert k == 1 if 2 * length < tokens else abs(whole - length) <= Fraction(tokens, 2)


@given(sizes, grids)
def test_up_gives_every_size_the_base_grid_and_enlarges_it_by_less_than_a_pixel_a_patch(image_size, grid):
    kernel, size = fitted(image_size, grid, fit='up')
    for length, k, tokens, whole in zip(image_size, kernel, grid, size):
        assert whole == k * tokens
        assert 0 <= whole - length < tokens


@both
@given(st.tuples(st.integers(1, 48), st.integers(1, 48)), grids, st.sampled_from(['fixed', 'constant']))
def test_multiples_of_the_grid_are_left_alone(fit, patch, grid, policy):
    image_size = patch[0] * grid[0], patch[1] * grid[1]
    kernel, size = fitted(image_size, grid, policy, fit)
    assert size == image_size
    assert kernel == (patch if policy == 'fixed' else (16, 16))


@both
@given(sizes, grids)
def test_isotropic_has_the_base_grid_along_the_short_side_and_keeps_the_aspect_ratio(fit, image_size, grid):
    (k, same), size = fitted(image_size, grid, 'isotropic', fit)
    assert k == same == min(fit_kernel(image_size, grid, 16, 'fixed', fit))
    short = min((0, 1), key=lambda axis: Fraction(image_size[axis], grid[axis]))
    factor = Fraction(k * grid[short], image_size[short])
    assert size[short] == k * grid[short]
    assert size[1 - short] == 1 or abs(size[1 - short] - image_size[1 - short] * factor) <= Fraction(1, 2)


@pytest.mark.parametrize('width', [64, 65, 100, 131])
@both
def test_isotropic_leaves_an_image_alone_whose_short_side_is_on_the_grid(fit, width):
    assert fitted((48, width), (3, 4), 'isotropic', fit) == ((16, 16), (48, width))


def test_63_px_on_a_grid_of_32_are_patches_of_2_px_where_floor_makes_4_times_the_tokens():
    layers = [MultiScalePatchEmbed(embed_dims=2, grid_size=32, fit=fit) for fit in ('up', 'nearest', 'floor')]
    assert [layer.token_grid((63, 63)) for layer in layers] == [(32, 32), (32, 32), (63, 63)]
    assert [layer.kernel_size((63, 63)) for layer in layers] == [(2, 2), (2, 2), (1, 1)]
    assert [layer.kernel_size((33, 33)) for layer in layers] == [(2, 2), (1, 1), (1, 1)]


@both
@pytest.mark.parametrize('host_padding', ['corner', 'same', None])
@given(size=st.tuples(st.integers(1, 120), st.integers(1, 120)))
def test_the_layer_embeds_every_size_on_the_base_grid(fit, host_padding, size):
    layer = tuned_layer(fit=fit, host=HostLayout(padding=host_padding))
    with torch.no_grad():
        tokens, grid = layer(noise(1, 3, *size, dtype=torch.float32))
    assert grid == layer.token_grid(size) == (3, 4)
    assert tokens.shape == (1, 12, 8)
    assert tokens.isfinite().all()


@both
@pytest.mark.parametrize('size', [(40, 60), (13, 17), (50, 64), (1, 1)])
def test_the_layer_embeds_an_odd_size_as_its_refit_to_a_multiple(fit, size):
    layer, image = tuned_layer(fit=fit), noise(2, 3, *size, dtype=torch.float32)
    whole = layer.fitted_size(size)
    assert whole != size
    with torch.no_grad(), layer.force_kernel(layer.kernel_index(size)):    # of the image's own size, by Eq. 10
        expected, _ = layer(refit_image(image, whole, layer.base_resolution))
        found, _ = layer(image)
    assert torch.equal(found, expected)


@pytest.mark.parametrize('correlation', [0., 0.99])
@pytest.mark.parametrize(('odd', 'whole'), [(59, 56), (63, 64), (43, 40), (70, 72), (131, 128), (203, 200)])
def test_refit_image_comes_closer_to_the_image_at_the_other_size_than_any_interpolation(odd, whole, correlation):
    """Images with neighbours that correlate by 0.9, shrunk from 128 px: by PyTorch's own resizes the error is larger."""
    places = torch.arange(128.)
    root = torch.linalg.cholesky((0.9**(places[:, None] - places).abs()).double())
    image = root @ noise(8, 3, 128, 128) @ root.T
    seen, expected = resize_image(image, (odd, odd)), resize_image(image, (whole, whole))
    refit = refit_image(seen, (whole, whole), (128, 128), correlation=correlation)
    others = [F.interpolate(seen, (whole, whole), mode=mode, antialias=antialias, align_corners=False)
              for mode in ('bilinear', 'bicubic') for antialias in (False, True)]
    assert (refit - expected).norm() < min((other - expected).norm() for other in others)


def test_refit_image_is_exact_where_the_images_were_enlarged_and_keeps_a_constant():
    image = noise(1, 3, 32, 32)
    refit = refit_image(resize_image(image, (43, 50)), (48, 40), (32, 32))
    torch.testing.assert_close(refit, resize_image(image, (48, 40)))
    ones = torch.ones(1, 1, 27, 21)
    torch.testing.assert_close(refit_image(ones, (28, 24), (64, 64), correlation=0.99), torch.ones(1, 1, 28, 24))


def test_floor_is_the_papers_formula_on_the_image_as_it_is():
    layer, image = tuned_layer(fit='floor'), noise(1, 3, 40, 60, dtype=torch.float32)
    assert layer.fitted_size((40, 60)) == (40, 60)
    assert layer.kernel_size((40, 60)) == (13, 15)
    with torch.no_grad():
        _, grid = layer(image)
    assert grid == layer.token_grid((40, 60)) == (4, 4)


def test_up_is_the_default_of_a_layer_and_an_unknown_fit_is_refused():
    assert MultiScalePatchEmbed(embed_dims=2).fit == 'up'
    with pytest.raises(ValueError, match=r"unknown fit 'ceil'.*up.*nearest.*floor"):
        MultiScalePatchEmbed(embed_dims=2, fit='ceil')
