"""Token grids with kernels of their own, and the grid that the layer has for a resolution."""
import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import layer_of, noise, randomize, unit_of
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.layers.token_grids import nearest_grid

BASE, COARSE, FINE = (4, 6), (2, 3), (8, 12)


def build(**changes):
    settings = dict(embed_dims=5, patch_size=8, grid_size=BASE, kernel_sizes=(2, 4, 8), token_grids=[COARSE, FINE],
                    fit='nearest')
    return randomize(layer_of(**{**settings, **changes}).double())


def test_a_grid_has_kernels_up_to_the_base_resolution():
    assert list(build().kernels) == ['2', '4', '2g2x3', '4g2x3', '8g2x3', '2g8x12', '4g8x12']
    assert build().own_kernels() == {BASE: [0, 1], COARSE: [0, 1, 2], FINE: [0, 1]}
    assert build(tune_base=True, token_grids=()).own_kernels() == {BASE: [0, 1, 2]}
    assert build(token_grids=[2]).own_kernels().keys() == {BASE, (2, 2)}


@pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])
@pytest.mark.parametrize(('grid', 'patch', 'name'), [(COARSE, 8, '8g2x3'), (COARSE, 5, '4g2x3'), (FINE, 4, '4g8x12'),
                                                     (BASE, 4, '4'), ((3, 3), 4, '4')])
def test_an_image_on_a_grid_is_embedded_by_the_kernels_of_the_grid(grid, patch, name, parameterization):
    layer = build(parameterization=parameterization)
    images = noise(2, 3, *(patch * tokens for tokens in grid))
    own = layer.kernels[name]
    weight, bias = layer.resize_kernel(own.weight, (patch, patch), own.weight.shape[-1]), own.bias
    if parameterization != 'native':
        unit = unit_of(layer)
        weight = unit * weight + layer.resize_kernel(layer.base.weight, (patch, patch))
        bias = unit * bias + layer.base.bias
    with layer.force_grid(grid):
        tokens, found = layer.eval()(images)
    assert found == grid
    torch.testing.assert_close(tokens, F.conv2d(images, weight, bias, stride=patch).flatten(2).mT)


def test_kernels_of_one_size_on_two_grids_are_not_taken_for_each_other():
    layer = build().eval()    # whose resized kernels are kept
    embedded = []
    for grid in (COARSE, BASE, COARSE):
        with layer.force_grid(grid), torch.no_grad():
            embedded.append(layer(F.pad(noise(1, 3, 6, 9), (0, 3 * grid[1] - 9, 0, 3 * grid[0] - 6)))[0])
    assert torch.equal(embedded[0], embedded[2])
    assert not torch.allclose(embedded[0][:, 0], embedded[1][:, 0])


def test_untrained_kernels_of_a_grid_are_the_pretrained_one():
    layer = layer_of(embed_dims=5, patch_size=8, grid_size=BASE, token_grids=[COARSE], fit='nearest').double()
    images = noise(1, 3, 16, 24)
    assert not layer.is_tuned()
    with layer.force_grid(COARSE):
        assert torch.equal(layer(images)[0], F.conv2d(images, layer.base.weight, layer.base.bias, stride=8).flatten(2).mT)
    layer.kernels['8g2x3'].weight.data += 1
    assert layer.is_tuned()


def test_budgets_choose_the_grid_of_a_resolution_and_leave_the_base_resolution_alone():
    layer = build()
    plain = copy.deepcopy(layer)
    layer.budgets = {(16, 24): COARSE, (8, 12): COARSE}
    for size, grid in {(16, 24): COARSE, (17, 22): COARSE, (8, 12): COARSE, (1, 1): COARSE, (32, 48): BASE, (30, 40): BASE,
                       (64, 96): BASE}.items():
        tokens, found = layer(noise(1, 3, *size))
        assert found == layer.token_grid(size) == layer.grid_for(size) == grid
        with plain.force_grid(grid):
            assert torch.equal(tokens, plain(noise(1, 3, *size))[0])
    with layer.force_grid(BASE):
        assert layer(noise(1, 3, 16, 24))[1] == BASE


@given(size=st.tuples(st.integers(1, 200), st.integers(1, 200)))
def test_the_nearest_resolution_gives_the_grid_and_of_two_the_larger(size):
    budgets = {(20, 20): (1, 1), (60, 60): (2, 2), (100, 100): (3, 3)}
    (rows, _) = nearest_grid(size, budgets)
    distances = {grid[0]: sum((a - b)**2 for a, b in zip(size, resolution)) for resolution, grid in budgets.items()}
    assert distances[rows] == min(distances.values())
    assert rows == max(grid for grid, distance in distances.items() if distance == distances[rows])


def test_baselines_have_no_grids_of_their_own():
    assert build().single_kernel('fixed').token_grids == ()
    assert build().sharing_base().token_grids == (COARSE, FINE)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(token_grids=[BASE]), 'beside the base grid of 4 x 6'), (dict(token_grids=[2, (2, 2)]), 'different grids'),
    (dict(token_grids=[0]), 'positive numbers of tokens'), (dict(token_grids=[(1, 2, 3)]), 'positive numbers of tokens'),
    (dict(kernel_policy='isotropic'), "kernel_policy='fixed'")])
def test_grids_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)
