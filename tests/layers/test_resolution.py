"""The token grid, Eq. 10 and the ranges of the sampler, against their definitions."""
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.core import choose_kernel, default_kernel_sizes, draw_patch_size, fit_kernel, sampling_range
from mspe_mm.layers.resolution import dense_kernel_sizes

PAPER = (4, 8, 12, 16)

image_sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))
grids = st.tuples(st.integers(1, 64), st.integers(1, 64))
kernel_sets = st.lists(st.integers(1, 48), min_size=1, max_size=6, unique=True).map(sorted)


# -- Patch sizes -------------------------------------------------------------------------------------------------------


@given(image_sizes, grids)
def test_fixed_is_the_floor_formula(image_size, grid):
    (h, w), (rows, columns) = image_size, grid
    assert fit_kernel(image_size, grid, 16) == (max(1, math.floor(h / rows)), max(1, math.floor(w / columns)))


@given(st.tuples(st.integers(1, 48), st.integers(1, 48)), grids)
def test_fixed_gives_k_at_k_times_the_grid_for_any_aspect_ratio(patch, grid):
    image_size = (patch[0] * grid[0], patch[1] * grid[1])
    assert fit_kernel(image_size, grid, 16, 'fixed') == patch


@given(image_sizes, grids)
def test_isotropic_is_square_and_taken_from_the_side_that_is_short_for_the_grid(image_size, grid):
    height, width = fit_kernel(image_size, grid, 16, 'isotropic')
    assert height == width == min(fit_kernel(image_size, grid, 16, 'fixed'))


@given(image_sizes, grids, st.integers(1, 32))
def test_constant_is_the_base_patch_size(image_size, grid, patch_size):
    assert fit_kernel(image_size, grid, patch_size, 'constant') == (patch_size, patch_size)


@pytest.mark.parametrize(('image_size', 'grid', 'policy', 'expected'), [
    ((512, 512), (32, 32), 'fixed', (16, 16)),
    ((128, 256), (32, 32), 'fixed', (4, 8)),
    ((128, 256), (32, 32), 'isotropic', (4, 4)),
    ((143, 500), (32, 32), 'fixed', (4, 15)),
    ((1, 1), (14, 14), 'fixed', (1, 1)),
    ((240, 320), (15, 20), 'isotropic', (16, 16)),
])
def test_examples_of_patch_sizes(image_size, grid, policy, expected):
    assert fit_kernel(image_size, grid, 16, policy) == expected


def test_an_empty_image_and_an_unknown_policy_are_refused_by_name():
    with pytest.raises(ValueError, match='0 x 32 px'):
        fit_kernel((0, 32), (14, 14), 16)
    with pytest.raises(ValueError, match=r"'square'.*fixed, isotropic, constant"):
        fit_kernel((32, 32), (14, 14), 16, 'square')


@pytest.mark.parametrize(('patch_size', 'kernels'), [
    (16, PAPER), (14, (4, 7, 11, 14)), (32, (8, 16, 24, 32)), (8, (2, 4, 6, 8)), (4, (1, 2, 3, 4)), (2, (1, 2)), (1, (1, ))])
def test_default_kernels_are_the_quarters_of_the_patch(patch_size, kernels):
    assert default_kernel_sizes(patch_size) == kernels


@pytest.mark.parametrize(('patch_size', 'kernels'), [
    (16, (1, 2, 3, 4, 6, 8, 12, 16)), (14, (1, 2, 3, 4, 5, 7, 11, 14)), (32, (2, 4, 6, 8, 12, 16, 24, 32)),
    (4, (1, 2, 3, 4)), (1, (1, ))])
def test_dense_kernels_reach_down_to_a_sixteenth(patch_size, kernels):
    assert dense_kernel_sizes(patch_size) == kernels
    assert set(default_kernel_sizes(patch_size)) <= set(kernels)


# -- Eq. 10 ------------------------------------------------------------------------------------------------------------


@given(image_sizes, grids, kernel_sets)
def test_the_kernel_of_the_nearest_native_resolution_is_chosen(resolution, grid, kernels):
    def squared_distance(k):
        return (k * grid[0] - resolution[0])**2 + (k * grid[1] - resolution[1])**2

    chosen = choose_kernel(resolution, grid, kernels)
    assert squared_distance(kernels[chosen]) == min(map(squared_distance, kernels))


@pytest.mark.parametrize('index', range(4))
def test_every_kernel_is_chosen_at_its_native_resolution(index):
    native = (PAPER[index] * 32, PAPER[index] * 48)
    assert choose_kernel(native, (32, 48), PAPER) == index


def test_of_two_kernels_equally_near_the_larger_is_chosen():
    assert choose_kernel((6 * 14, 6 * 14), (14, 14), PAPER) == 1


# -- Sampling ----------------------------------------------------------------------------------------------------------


def test_double_gives_the_papers_ranges():
    assert [sampling_range(PAPER, i) for i in range(4)] == [(2, 8), (4, 16), (6, 24), (8, 32)]


def test_partition_gives_the_papers_kernels_these_shares():
    assert [sampling_range(PAPER, i, 'partition') for i in range(4)] == [(2, 5), (6, 9), (10, 13), (14, 32)]


@given(kernel_sets)
def test_the_partition_covers_the_whole_range_without_overlap(kernels):
    ranges = [sampling_range(kernels, i, 'partition') for i in range(len(kernels))]
    sizes = [size for low, high in ranges for size in range(low, high + 1)]
    assert sizes == list(range(max(1, math.ceil(kernels[0] / 2)), 2 * kernels[-1] + 1))


@given(kernel_sets, grids)
def test_the_partition_is_where_eq_10_sends_images(kernels, grid):
    for index in range(len(kernels)):
        low, high = sampling_range(kernels, index, 'partition')
        for patch in (low, high):
            assert choose_kernel((patch * grid[0], patch * grid[1]), grid, kernels) == index


def test_a_native_sampling_is_the_kernels_own_size():
    assert [sampling_range(PAPER, i, 'native') for i in range(4)] == [(k, k) for k in PAPER]
    assert draw_patch_size(PAPER, 2, 'native', aspect_jitter=True) == (12, 12)


@pytest.mark.parametrize('sampling', ['double', 'partition'])
@pytest.mark.parametrize('index', range(4))
def test_draws_are_square_and_uniform_over_the_range(index, sampling):
    generator = torch.Generator().manual_seed(0)
    draws = [draw_patch_size(PAPER, index, sampling, generator=generator) for _ in range(4000)]
    low, high = sampling_range(PAPER, index, sampling)
    counts = Counter(height for height, _ in draws)
    assert all(height == width for height, width in draws)
    assert set(counts) == set(range(low, high + 1))
    expected = len(draws) / len(counts)
    chi_squared = sum((count - expected)**2 / expected for count in counts.values())
    freedom = len(counts) - 1
    assert chi_squared < freedom + 4 * math.sqrt(2 * freedom)    # four standard deviations


def test_aspect_jitter_draws_height_and_width_apart():
    generator = torch.Generator().manual_seed(0)
    draws = [draw_patch_size(PAPER, 0, aspect_jitter=True, generator=generator) for _ in range(4000)]
    assert set(draws) == {(height, width) for height in range(2, 9) for width in range(2, 9)}


def test_draws_repeat_with_their_generator_and_with_the_global_seed():
    def draws(generator=None):
        return [draw_patch_size(PAPER, 3, aspect_jitter=True, generator=generator) for _ in range(20)]

    assert draws(torch.Generator().manual_seed(3)) == draws(torch.Generator().manual_seed(3))
    torch.manual_seed(5)
    first = draws()
    assert first != draws()
    torch.manual_seed(5)
    assert draws() == first


def test_an_unknown_sampling_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'half'.*double, partition"):
        sampling_range(PAPER, 0, 'half')
    with pytest.raises(ValueError, match=r"'half'.*double, partition"):
        draw_patch_size(PAPER, 0, 'half')
