"""Random token grids: which are drawn, what they see, what trains."""
import pytest
import torch
from helpers import layer_of, noise, randomize
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.core import MultiResolutionObjective, resize_image
from mspe_mm.tuning.factory import build_objective
from mspe_mm.tuning.token_grid_objective import TokenGridObjective, tileable_size


def build(**changes):
    return randomize(layer_of(**{**dict(embed_dims=4, patch_size=8, grid_size=4, kernel_sizes=(2, 4, 8)),
                                             **changes}).double())


@given(length=st.integers(1, 300), tokens=st.integers(1, 40))
def test_the_nearest_size_of_whole_patches(length, tokens):
    size, width = tileable_size((length, 300), (tokens, 30))
    assert size % tokens == 0
    assert size >= tokens
    others = [tokens * patch for patch in range(1, 2 * length + 2)]
    assert abs(size - length) == min(abs(other - length) for other in others)
    assert width == 300


@pytest.mark.parametrize('grid', [(4, 4), (8, 8), (16, 16), (2, 8), (1, 1), (3, 5)])
@pytest.mark.parametrize('size', [(32, 32), (48, 80)])
def test_a_forced_grid_is_put_on_the_image_by_the_kernel_that_fits(grid, size):
    layer, images = build(), noise(1, 3, *tileable_size(size, grid))
    height, width = images.shape[-2:]
    with layer.force_grid(grid):
        tokens, found = layer(images)
        assert layer.token_grid((height, width)) == grid
    assert found == grid
    patch = (height // grid[0], width // grid[1])
    # Of two kernels at the same distance the larger.
    nearest = min(reversed(layer.kernel_sizes), key=lambda k: (k * grid[0] - height)**2 + (k * grid[1] - width)**2)
    weight, bias = layer.sized_kernel(patch, layer.kernel_sizes.index(nearest))
    expected = torch.nn.functional.conv2d(images, weight, bias, stride=patch).flatten(2).transpose(1, 2)
    assert torch.equal(tokens, expected)
    assert layer.grid_size == (4, 4)


def test_outside_the_context_the_base_grid_is_back():
    layer, images = build(), noise(1, 3, 32, 32)
    before = layer(images)[0]
    with layer.force_grid((8, 8)), layer.force_grid(None):
        assert layer(images)[1] == (4, 4)
    with pytest.raises(KeyError), layer.force_grid((8, 8)):
        raise KeyError
    assert torch.equal(layer(images)[0], before)


def test_every_grid_is_drawn_as_often_and_sees_the_resized_images():
    layer, images = build(), noise(2, 3, 32, 32)
    objective = TokenGridObjective([8, (16, 8), 12], freeze=False)
    seen = {}
    for _ in range(300):
        def loss(x):
            return dict(loss=x.sum(), tokens=layer(x)[0].shape[1])
        (name, value), (_, tokens) = objective(layer, images, loss).items()
        seen.setdefault(name, []).append((value, tokens))
    assert {name: rows[0][1] for name, rows in seen.items()} == {'g8x8.loss': 64, 'g16x8.loss': 128, 'g12x12.loss': 144}
    assert all(value == images.sum() for name in ('g8x8.loss', 'g16x8.loss') for value, _ in seen[name])
    assert seen['g12x12.loss'][0][0] == resize_image(images, (36, 36)).sum()
    # Binomial, p = 1 / 3: standard deviation 8.2; five of them.
    assert all(abs(len(rows) - 100) < 41 for rows in seen.values())


def test_grids_of_the_frozen_kernel_are_not_drawn():
    layer = build()
    objective = TokenGridObjective([2, 4, 8, 16])    # patches of 16, 8, 4 and 2 px
    assert objective.trainable_grids(layer, (32, 32)) == [(8, 8), (16, 16)]
    assert objective.trainable_grids(build(tune_base=True), (32, 32)) == objective.token_grids
    assert TokenGridObjective([2, 4], freeze=False).trainable_grids(layer, (32, 32)) == [(2, 2), (4, 4)]
    with pytest.raises(ValueError, match=r'token_grids .* all use the frozen pretrained kernel'):
        TokenGridObjective([2, 4])(layer, noise(1, 3, 32, 32), lambda x: {})


def test_a_step_moves_the_kernel_of_its_grid():
    layer = build()
    layer.requires_grad_(False).kernels.requires_grad_(True)
    (loss, ) = TokenGridObjective([16])(layer, noise(1, 3, 32, 32), lambda x: dict(loss=layer(x)[0].square().sum())).values()
    loss.backward()
    assert layer.kernels['2'].weight.grad.abs().max() > 0
    assert layer.kernels['4'].weight.grad is None


def test_the_config_chooses_the_objective():
    assert isinstance(build_objective({}), MultiResolutionObjective)
    assert build_objective({}).freeze
    flexible = build_objective(dict(token_grids=[4, 8], freeze=False))
    assert isinstance(flexible, TokenGridObjective)
    assert not flexible.freeze


@pytest.mark.parametrize('grids', [[], [0], [(3, 0)], [(1, 2, 3)]])
def test_what_is_no_grid_is_refused(grids):
    with pytest.raises(ValueError, match='token_grids must be positive numbers of tokens'):
        TokenGridObjective(grids)
