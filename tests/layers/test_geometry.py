"""Kernels larger than their patches: where they lie, and that resizing keeps them there."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, noise, relative_error, timm_resample
from hypothesis import example, given
from hypothesis import strategies as st

from mspe_mm.core import PatchGeometry, pi_resize
from mspe_mm.layers.geometry import aligned_window

PVT = PatchGeometry(4, 7)
patches = st.integers(1, 40)
geometries = st.tuples(st.integers(1, 16), st.integers(0, 8)).map(
    lambda pair: PatchGeometry(pair[0], pair[0] + 2 * pair[1] + (1 - pair[0] % 2) if pair[1] else pair[0]))


# -- Where kernels lie -------------------------------------------------------------------------------------------------


def test_the_papers_pairs_of_kernel_and_stride_for_pvt_v2():
    assert [(PVT.kernel(p), p) for p in (1, 2, 3, 4)] == [(3, 1), (5, 2), (7, 3), (7, 4)]
    assert [PVT.reach(p)[0] for p in (1, 2, 3, 4)] == [1, 2, 3, 3]    # their paddings, kernel // 2


@given(geometries)
def test_the_pretrained_kernel_has_its_own_extent_and_padding(geometry):
    padding = geometry.kernel_size // 2 if geometry.overlaps else 0
    assert geometry.reach(geometry.patch_size) == (padding, geometry.kernel_size - padding)


@given(geometries, patches)
def test_a_kernel_sees_all_that_the_pretrained_one_sees_and_is_centred_at_least(geometry, patch):
    before, after = geometry.reach(patch)
    base_before, base_after = geometry.reach(geometry.patch_size)
    scale = patch / geometry.patch_size
    assert before >= base_before * scale
    assert after >= base_after * scale
    assert before - 1 < base_before * scale
    assert after - 1 < base_after * scale or (after == before + 1 and geometry.overlaps)
    assert after > before
    assert geometry.kernel(patch) == before + after


@given(patches, patches)
def test_without_overlap_the_kernel_is_the_patch(patch_size, patch):
    geometry = PatchGeometry(patch_size, patch_size)
    assert not geometry.overlaps
    assert geometry.reach(patch) == (0, patch)
    assert aligned_window(geometry, patch, patch_size) == ((0, patch), (0, patch_size))


@pytest.mark.parametrize(('patch_size', 'kernel_size'), [(4, 3), (4, 8), (16, 12), (2, 4)])
def test_kernels_with_gaps_between_them_or_without_a_centre_are_refused(patch_size, kernel_size):
    with pytest.raises(ValueError, match=f'{kernel_size} px on patches of {patch_size} px'):
        PatchGeometry(patch_size, kernel_size)


@given(geometries, patches, patches)
def test_the_window_holds_both_kernels_and_its_pixels_line_up(geometry, new, old):
    new_window, old_window = aligned_window(geometry, new, old)
    for window, patch in ((new_window, new), (old_window, old)):
        assert all(length >= reach for length, reach in zip(window, geometry.reach(patch)))
    assert all(n * old == o * new for n, o in zip(new_window, old_window))


# -- Resizing ----------------------------------------------------------------------------------------------------------


def kernel_of(geometry, patch, seed=0):
    return noise(2, 3, geometry.kernel(patch[0]), geometry.kernel(patch[1]), seed=seed)


def in_window(weight, geometry, patch, windows):
    """A kernel on patches of ``patch`` (height, width) with zeros around it to fill a window (before, from then on)."""
    (top, bottom), (left, right) = (
        (before - own_before, after - own_after)
        for (before, after), (own_before, own_after) in zip(windows, (geometry.reach(p) for p in patch)))
    return F.pad(weight, (left, right, top, bottom))


def windows_of(geometry, new, old):
    """The windows of both axes, at the new patch size and at the old."""
    return list(zip(*(aligned_window(geometry, n, o) for n, o in zip(new, old))))


def dense_resize(new, old, interpolation, antialias):
    """The map of a window to another resolution as one matrix, by PyTorch's resize of every pixel's unit image."""
    sizes = [[sum(side) for side in sides] for sides in (new, old)]
    units = torch.eye(math.prod(sizes[1]), dtype=torch.float64).unflatten(1, (1, *sizes[1]))
    def resized_height(images, height):
        # Two copies side by side: F.interpolate(antialias=True) is wrong for images of one pixel's width.
        width = images.shape[-1]
        pairs = images.repeat(1, 1, 1, 2)
        return F.interpolate(pairs, (height, 2 * width), mode=interpolation, antialias=antialias)[..., :width]

    rows = resized_height(units, sizes[0][0])
    return resized_height(rows.mT, sizes[0][1]).mT.flatten(1).T


torch_models = pytest.mark.parametrize(('interpolation', 'antialias'), MODELS[:4])


@torch_models
@example(geometry=PatchGeometry(4, 4), old=2, new=(1, 3))    # one axis shrinks to a pixel, the other grows
@given(geometry=st.sampled_from([PVT, PatchGeometry(2, 3), PatchGeometry(3, 7), PatchGeometry(4, 5), PatchGeometry(4, 4)]),
       old=st.integers(1, 6), new=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_the_resized_kernel_is_the_least_squares_optimum_over_windows_of_white_noise(interpolation, antialias, geometry, old,
                                                                                     new):
    old = (old, old)
    weight = kernel_of(geometry, old)
    new_windows, old_windows = windows_of(geometry, new, old)
    target = in_window(weight, geometry, old, old_windows).flatten(2).flatten(0, 1)
    matrix = dense_resize(new_windows, old_windows, interpolation, antialias)
    seen = in_window(torch.ones(1, 1, *(geometry.kernel(p) for p in new)), geometry, new, new_windows).flatten().bool()
    expected = np.linalg.lstsq(matrix[seen].T.numpy(), target.T.numpy(), rcond=1e-12)[0]
    actual = geometry.resize(weight, new, old, interpolation, antialias).flatten(2).flatten(0, 1)
    if old == new:
        assert torch.equal(actual, weight.flatten(2).flatten(0, 1))
    else:
        # The error of the map, not the map: the optimum may be reached by more than one kernel, up to rounding.
        errors = [(matrix[seen].T @ w - target.T).norm().item() for w in (actual.T, torch.from_numpy(expected))]
        assert errors[0] <= errors[1] + 1e-9 * target.norm().item()


@torch_models
@given(geometry=st.sampled_from([PVT, PatchGeometry(2, 3), PatchGeometry(4, 5)]), old=st.integers(1, 5),
       new=st.tuples(st.integers(1, 5), st.integers(1, 5)), rho=st.floats(0.01, 0.99))
def test_with_correlation_it_is_the_optimum_for_windows_of_that_covariance(interpolation, antialias, geometry, old, new,
                                                                           rho):
    """For x of covariance S = L L^T, E(<Bx, w'> - <x, w>)^2 = |L^T (B^T w' - w)|^2."""
    old = (old, old)
    weight = kernel_of(geometry, old)
    new_windows, old_windows = windows_of(geometry, new, old)
    target = in_window(weight, geometry, old, old_windows).flatten(2).flatten(0, 1)
    seen = in_window(torch.ones(1, 1, *(geometry.kernel(p) for p in new)), geometry, new, new_windows).flatten().bool()
    matrix = dense_resize(new_windows, old_windows, interpolation, antialias)[seen]
    rows, columns = (rho**(torch.arange(n)[:, None] - torch.arange(n)).abs().double() for n in map(sum, old_windows))
    root = torch.linalg.cholesky(torch.kron(rows, columns))
    best = torch.from_numpy(np.linalg.lstsq((root.T @ matrix.T).numpy(), (root.T @ target.T).numpy(), rcond=1e-12)[0])
    actual = geometry.resize(weight, new, old, interpolation, antialias, rho).flatten(2).flatten(0, 1)
    if old != new:
        error, least = ((root.T @ (matrix.T @ w - target.T)).norm() for w in (actual.T, best))
        assert error <= least + 1e-9 * target.norm()


@pytest.mark.parametrize(('interpolation', 'antialias'), MODELS)
@given(st.integers(4, 40), st.integers(4, 40))
def test_growing_is_exact_for_every_window(interpolation, antialias, height, width):
    """Eq. 5 with kernels that reach beyond their patches."""
    weight, new = kernel_of(PVT, (4, 4)), (height, width)
    resized = PVT.resize(weight, new, (4, 4), interpolation, antialias)
    new_windows, old_windows = windows_of(PVT, new, (4, 4))
    window = noise(1, 3, *(sum(side) for side in old_windows), seed=1)
    size = tuple(sum(side) for side in new_windows)
    if interpolation == 'area':
        grown = pi_resize_reference_area(window, size)
    else:
        kwargs = {} if interpolation == 'nearest' else dict(antialias=antialias)
        grown = F.interpolate(window, size, mode=interpolation, **kwargs)
    before = (in_window(weight, PVT, (4, 4), old_windows) * window).sum((1, 2, 3))
    after = (in_window(resized, PVT, new, new_windows) * grown).sum((1, 2, 3))
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def pi_resize_reference_area(image, size):
    """Area resizing by repeating every pixel ``size`` times and averaging."""
    rows = image.repeat_interleave(size[0], 2).unflatten(2, (size[0], -1)).mean(3)
    return rows.repeat_interleave(size[1], 3).unflatten(3, (size[1], -1)).mean(4)


@given(st.integers(1, 8), st.integers(0, 6), st.integers(2, 4), st.sampled_from(MODELS[:4]))
def test_growing_any_kernel_by_a_whole_factor_is_plain_pi_resize(patch_size, margin, factor, model):
    geometry = PatchGeometry(patch_size, patch_size + 2 * margin + (1 - patch_size % 2) if margin else patch_size)
    weight, new = kernel_of(geometry, (patch_size, patch_size)), (factor * patch_size, factor * patch_size)
    grown = (factor * geometry.kernel_size, factor * geometry.kernel_size)
    assert geometry.resize(weight, new, (patch_size, patch_size), *model).shape[-2:] == grown
    torch.testing.assert_close(geometry.resize(weight, new, (patch_size, patch_size), *model),
                               pi_resize(weight, grown, *model), rtol=1e-10, atol=1e-10)


@torch_models
@pytest.mark.parametrize(('patch', 'pad', 'kernel'), [(1, (1, 4), 3), (2, (1, 2), 5), (8, (0, 0), 14), (16, (0, 0), 28)])
def test_at_a_quarter_a_half_twice_and_four_times_it_is_timms_resampler_on_a_window(patch, pad, kernel, interpolation,
                                                                                   antialias):
    """7 px on 4 px patches see 12 px at a quarter and 10 px at a half, with zeros where the pretrained kernel ends."""
    weight = kernel_of(PVT, (4, 4)).float()
    expected = timm_resample(F.pad(weight, (*pad, *pad)), (kernel, kernel), interpolation, antialias)
    assert relative_error(PVT.resize(weight, (patch, patch), (4, 4), interpolation, antialias), expected) < 1e-5


@given(patches, patches, patches)
def test_without_overlap_it_is_pi_resize(old, height, width):
    geometry = PatchGeometry(16, 16)
    weight = kernel_of(geometry, (old, old)).float()
    torch.testing.assert_close(geometry.resize(weight, (height, width), (old, old)), pi_resize(weight, (height, width)))


def test_at_its_own_size_it_is_the_weight_itself_and_elsewhere_it_is_differentiable():
    weight = kernel_of(PVT, (4, 4)).requires_grad_()
    assert PVT.resize(weight, (4, 4), (4, 4)) is weight
    with torch.inference_mode():    # a factor made here must not stand in the way of training
        PVT.resize(weight, (2, 3), (4, 4))
    assert torch.autograd.gradcheck(lambda w: PVT.resize(w, (2, 3), (4, 4)), weight[:1, :1].detach().requires_grad_())


def test_half_precision_kernels_are_resized_in_double_and_keep_their_dtype():
    weight = kernel_of(PVT, (4, 4)).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        resized = PVT.resize(weight, (2, 2), (4, 4))
    assert torch.equal(resized, PVT.resize(weight.double(), (2, 2), (4, 4)).bfloat16())
