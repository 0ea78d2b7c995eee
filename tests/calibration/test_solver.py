"""Calibrated kernels against the regression of the pixels, gradient descent, and PI-resize where the patches are noise."""
import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, layer_of, noise, randomize, relative_error
from hypothesis import assume, given
from hypothesis import strategies as st

from mspe_mm.calibration.moments import PairMoments, token_error
from mspe_mm.calibration.solver import MAX_INPUTS, RIDGES, Calibrator, calibrate, extract_patches, solve
from mspe_mm.core import pi_resize, resize_image


def gather(u, t):
    moments = PairMoments(u.shape[1], t.shape[1])
    moments.update(u, t)
    return moments


def correlated(count, length, seed=0):
    """Patches whose values depend on each other, and are not zero in the mean."""
    return noise(count, length, seed=seed) @ (0.5 * noise(length, length, seed=seed + 1) + torch.eye(length)) + 1.5


def problem(count=400, inputs=8, targets=3):
    """Patches u, tokens t that u does not quite determine, and the kernel to start from."""
    u = correlated(count, inputs)
    return u, u @ noise(inputs, targets, seed=5) + 0.3 * noise(count, targets, seed=6) - 2, noise(targets, inputs, seed=7)


def embed(x, weight, bias):
    return F.conv2d(x, weight, bias, stride=tuple(weight.shape[-2:])).flatten(2).mT


# -- Patches -----------------------------------------------------------------------------------------------------------

small = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.tuples(st.integers(1, 14), st.integers(1, 14)), small, st.none() | small,
       st.integers(0, 2) | st.tuples(st.integers(0, 2), st.integers(0, 2)), st.integers(0, 100))
def test_patches_times_the_weight_are_the_convolution(image_size, size, stride, padding, seed):
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    assume(image_size[0] + 2 * vertical >= size[0] and image_size[1] + 2 * horizontal >= size[1])
    images, weight = noise(2, 3, *image_size, seed=seed), noise(4, 3, *size, seed=seed)
    expected = F.conv2d(images, weight, stride=stride or size, padding=padding)
    patches = extract_patches(images, size, stride, padding)
    torch.testing.assert_close(patches @ weight.flatten(1).T, expected.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-12)


# -- The solution ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(4, 4), (2, 5), (6, 3), (9, 9)])
def test_it_is_the_regression_of_the_pixels_carried_over_to_the_kernel(size):
    """method: least squares of x on (u, 1) gives A and a constant; w' = A^T vec(w), b' = b + constant . vec(w)."""
    weight = noise(5, 2, 6, 6)
    x = correlated(600, 72)
    small = resize_image(x.view(-1, 2, 6, 6), size, 'bicubic').flatten(1)
    u = small + 0.1 * noise(*small.shape) + 0.05 * small.square()    # no linear map of x
    regression = np.linalg.lstsq(np.c_[u.numpy(), np.ones(len(u))], x.numpy(), rcond=None)[0]
    a, constant = torch.from_numpy(regression[:-1]), torch.from_numpy(regression[-1])
    rows = weight.flatten(1)
    [(kernel, bias)] = solve(gather(u, x @ rows.T), pi_resize(weight, size).flatten(1), [0.])
    assert relative_error(kernel, rows @ a.T) <= 1e-9
    assert relative_error(bias, rows @ constant) <= 1e-9


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('ridge', [0., 1e-3, 1.])
@pytest.mark.slow
def test_it_is_what_gradient_descent_finds(ridge, bias):
    u, t, start = problem()
    scale = ridge * (u - u.mean(0) if bias else u).square().mean()
    weight, constant = torch.zeros_like(start).requires_grad_(), torch.zeros(3, dtype=torch.float64).requires_grad_()
    parameters = [weight, constant] if bias else [weight]
    design = torch.cat([u, torch.ones(len(u), 1)], 1) if bias else u
    step = 0.5 / (torch.linalg.eigvalsh(design.T @ design / len(u))[-1] + scale).item()    # 1 / L of the loss
    optimizer = torch.optim.SGD(parameters, lr=step, momentum=0.98, nesterov=True)
    for index in range(6000):
        optimizer.zero_grad()
        loss = (t - u @ weight.T - constant).square().sum(1).mean() + scale * (weight - start).square().sum()
        loss.backward()
        optimizer.step()
        if index % 100 == 0 and max(p.grad.abs().max() for p in parameters) <= 1e-9:
            break
    assert max(p.grad.abs().max() for p in parameters) <= 1e-9    # it has arrived
    [(kernel, offset)] = solve(gather(u, t), start, [ridge], bias)
    assert relative_error(kernel, weight) <= 1e-5
    assert (offset - constant).abs().max() <= 1e-5


def white(channels, shape, root=None):
    """Patches whose second moments are exactly the identity, or ``root @ root.T``."""
    x = torch.eye(channels * shape[0] * shape[1], dtype=torch.float64) if root is None else root.T
    return torch.cat([x, -x]).view(-1, channels, *shape)


@pytest.mark.parametrize(('interpolation', 'antialias'), MODELS)
@pytest.mark.parametrize('size', [(3, 4), (8, 4), (9, 11), (3, 11)])
def test_for_patches_of_white_noise_it_is_pi_resize(interpolation, antialias, size):
    x, weight = white(2, (6, 8)), noise(3, 2, 6, 8)
    u = resize_image(x, size, interpolation, antialias).flatten(1)
    [(kernel, bias)] = solve(gather(u, x.flatten(1) @ weight.flatten(1).T), torch.zeros(3, u.shape[1]), [0.])
    assert relative_error(kernel, pi_resize(weight, size, interpolation, antialias).flatten(1)) <= 1e-9
    assert bias.abs().max() <= 1e-12


@pytest.mark.parametrize('correlation', [0.3, 0.99])
def test_for_correlated_patches_it_is_pi_resize_with_that_correlation(correlation):
    """Whatever the channels have to do with each other."""
    def axis(length):
        places = torch.arange(length, dtype=torch.float64)
        return correlation**(places[:, None] - places).abs()

    between_channels = torch.tensor([[1., 0.8], [0.8, 2.]], dtype=torch.float64)
    covariance = torch.kron(between_channels, torch.kron(axis(6), axis(8)))
    x, weight = white(2, (6, 8), torch.linalg.cholesky(covariance)), noise(3, 2, 6, 8)
    u = resize_image(x, (3, 4)).flatten(1)
    [(kernel, _)] = solve(gather(u, x.flatten(1) @ weight.flatten(1).T), torch.zeros(3, u.shape[1]), [0.])
    assert relative_error(kernel, pi_resize(weight, (3, 4), correlation=correlation).flatten(1)) <= 1e-9


def test_an_ever_larger_ridge_leads_back_to_the_start():
    u, t, start = problem()
    distances = [relative_error(weight, start) for weight, _ in solve(gather(u, t), start, [1e-3, 1., 1e3, 1e9])]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] <= 1e-7
    [(weight, bias)] = solve(gather(u, t), start, [math.inf])
    assert torch.equal(weight, start)
    assert not bias.any()


def test_what_the_patches_do_not_show_stays_as_it_was():
    u, t, start = problem()
    flat = torch.cat([u, u[:, :3], torch.full((len(u), 1), 4.)], 1)    # three values seen twice, one that never changes
    start = torch.cat([start, start[:, :3], noise(3, 1, seed=9)], 1)
    for ridge in (0., 1e-6):
        [(weight, _)] = solve(gather(flat, t), start, [ridge])
        torch.testing.assert_close(weight[:, -1], start[:, -1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(weight[:, :3], weight[:, 8:11], rtol=1e-6, atol=1e-6)
    [(weight, _)] = solve(gather(flat, t), start, [0.])
    [(reduced, _)] = solve(gather(u, t), start[:, :8], [0.])
    predicted, expected = flat @ weight.T, u @ reduced.T
    torch.testing.assert_close(predicted - predicted.mean(0), expected - expected.mean(0), rtol=1e-8, atol=1e-8)


def test_images_of_one_colour_leave_the_start():
    u, t, start = torch.full((9, 4), 0.5), torch.full((9, 2), 3.), noise(2, 4)
    for weight, bias in solve(gather(u, t), start, [0., 1e-4]):
        assert torch.equal(weight, start)
        torch.testing.assert_close(weight @ u[0].double() + bias, t[0].double())


def test_no_pairs_are_refused():
    with pytest.raises(ValueError, match='no pairs of patches'):
        solve(PairMoments(4, 2), noise(2, 4), [0.])


# -- The ridge ---------------------------------------------------------------------------------------------------------


def test_the_ridge_is_the_one_that_is_best_on_what_was_held_out():
    u, t, start = problem(count=12)    # few: without ridge they are fitted too well
    other_u, other_t, _ = problem(count=500)
    fit, held_out = gather(u, t), gather(other_u, other_t)
    found = calibrate(fit, held_out, start.view(3, 2, 2, 2))
    errors = {ridge: token_error(held_out, *solution) for ridge, solution in zip(RIDGES, solve(fit, start, RIDGES))}
    assert found.ridge == min(errors, key=errors.get) not in (RIDGES[0], RIDGES[-1])
    assert found.error_after == errors[found.ridge] < found.error_before == token_error(held_out, start)
    assert found.weight.shape == (3, 2, 2, 2)
    assert calibrate(fit, held_out, start.view(3, 2, 2, 2), [0.5]).ridge == 0.5


def test_where_nothing_is_better_than_pi_resize_it_stays():
    u, t, start = problem(count=6)
    held_out = gather(other := correlated(300, 8, seed=20), other @ start.T)
    found = calibrate(gather(u, t), held_out, start.view(3, 2, 2, 2))
    assert found.ridge == math.inf
    assert torch.equal(found.weight.flatten(1), start)
    assert found.error_after == found.error_before


# -- The layer ---------------------------------------------------------------------------------------------------------


def images(count=6, size=(51, 64), seed=0):
    """Smooth ones: noise, grown."""
    return resize_image(noise(count, 3, 9, 11, seed=seed), size, 'bicubic') + 0.05 * noise(count, 3, *size, seed=seed + 1)


def shrink(x, k):
    """48 rows of the 51, by an area average that the layer does not know of, and then something that is not linear."""
    return resize_image(x[:, :, :48], (3 * k, 4 * k), 'area').clamp(-1.5, 1.5)


def make_layer(**settings):
    layer = layer_of(**{**dict(embed_dims=8, grid_size=(3, 4), kernel_sizes=(4, 6, 16, 20)), **settings})
    randomize(layer.base)
    layer.reset_kernels()
    return layer


def stream(layer, sizes):
    calibrator = Calibrator(layer, sizes)
    for index, x in enumerate(images(24).split(1)):
        calibrator.update(x, {k: shrink(x, k) for k in sizes}, held_out=index >= 20)
    return calibrator


@pytest.mark.parametrize('parameterization', ['native', 'residual'])
@pytest.mark.parametrize('settings', [
    {}, dict(bias=False), dict(tune_base=True), dict(correlation=0.9), dict(context=2),
    dict(context={4: 1, 6: 3}, correlation=0.9)])
def test_the_layer_has_the_errors_that_are_reported(parameterization, settings):
    layer = make_layer(parameterization=parameterization, **settings)
    sizes = [4, 20, 16] if layer.kernels.keys() >= {'16'} else [4, 20]
    held_out = images(24)[20:]
    before = {k: layer(shrink(held_out, k).float())[0] for k in sizes}
    found = stream(layer, sizes).finish()
    assert layer.is_tuned()
    assert list(found) == sizes
    base = copy.deepcopy(layer.base).double()
    wanted = embed(held_out[:, :, :48], base.weight, base.bias)
    for k, kernel in found.items():
        with layer.force_kernel(layer.kernel_sizes.index(k)):
            tokens = layer(shrink(held_out, k).float())[0]
        for actual, reported in ((before[k], kernel.error_before), (tokens, kernel.error_after)):
            error = (actual - wanted).square().sum() / (wanted - wanted.mean((0, 1))).square().sum()
            assert error.item() == pytest.approx(reported, rel=1e-4)
        assert kernel.error_after < kernel.error_before
    assert not layer.kernels['6'].weight.any() or parameterization == 'native'    # not asked for


@pytest.mark.parametrize('parameterization', ['native', 'residual'])
@pytest.mark.parametrize('correlation', [0., 0.9])
def test_overlapping_kernels_are_calibrated_on_all_that_they_see(parameterization, correlation):
    """Stock tokens at the base resolution, zeros around the image included, against the layer's own on the small one."""
    layer = layer_of(embed_dims=8, patch_size=4, base_kernel=7, grid_size=(12, 16), kernel_sizes=(2, 3, 4),
                     parameterization=parameterization, correlation=correlation)
    randomize(layer.base)
    layer.reset_kernels()
    x = images(8, (48, 64)).float()
    small = {k: resize_image(x, (12 * k, 16 * k), 'area').clamp(-1.5, 1.5) for k in (2, 3)}
    before = {k: layer(small[k][6:])[0] for k in small}
    calibrator = Calibrator(layer, [*small])
    calibrator.update(x[:6], {k: u[:6] for k, u in small.items()})
    calibrator.update(x[6:], {k: u[6:] for k, u in small.items()}, held_out=True)
    found = calibrator.finish()
    wanted = layer.base(x[6:]).flatten(2).mT
    for k, kernel in found.items():
        assert kernel.weight.shape == layer.kernels[str(k)].weight.shape
        for actual, reported in ((before[k], kernel.error_before), (layer(small[k][6:])[0], kernel.error_after)):
            error = (actual - wanted).square().sum() / (wanted - wanted.mean((0, 1))).square().sum()
            assert error.item() == pytest.approx(reported, rel=1e-4)
        assert kernel.error_after < kernel.error_before


@pytest.mark.parametrize('layout', [{}, dict(patch_size=4, base_kernel=7, grid_size=(12, 16), kernel_sizes=(1, 2, 4))])
def test_with_context_less_of_the_tokens_is_missed(layout):
    def missed(context):
        layer = make_layer(**{**dict(kernel_sizes=(2, 4, 16)), **layout}, context=context)
        k = layer.kernel_sizes[0]
        calibrator, x = Calibrator(layer, [k]), images(24, (48, 64)).float()
        small = resize_image(x, (k * layer.grid_size[0], k * layer.grid_size[1]), 'area')
        calibrator.update(x[:20], {k: small[:20]})
        calibrator.update(x[20:], {k: small[20:]}, held_out=True)
        return calibrator.finish()[k].error_after

    errors = [missed(context) for context in (0, 1)]
    assert errors[1] < 0.95 * errors[0]


def test_images_in_one_batch_or_many_are_the_same():
    one = make_layer()
    many = copy.deepcopy(one)
    together = Calibrator(one, [4])
    x = images(24)
    together.update(x[:20], {4: shrink(x[:20], 4)})
    together.update(x[20:], {4: shrink(x[20:], 4)}, held_out=True)
    together.finish()
    stream(many, [4]).finish()
    torch.testing.assert_close(one.kernels['4'].weight, many.kernels['4'].weight)


def test_patches_that_one_image_lacks_are_left_out():
    layer = make_layer()
    calibrator, x = Calibrator(layer, [4]), images(1)
    calibrator.update(x, {4: noise(1, 3, 15, 18)})    # 3 x 4 patches of 16 px, 3 x 4 of 4 px and a rest
    calibrator.update(x, {4: noise(1, 3, 11, 40)})    # 2 x 10
    assert calibrator.moments[4][False].count == 3 * 4 + 2 * 4


@pytest.mark.parametrize(('settings', 'sizes', 'sentence'), [
    ({}, [5], 'no kernel of 5 px to calibrate, its own are of 4, 6, 20'),
    ({}, [16], 'no kernel of 16 px'),
    (dict(kernel_sizes=(16, )), [4], 'its own are of none'),
    (dict(kernel_sizes=(16, 40)), [40], f'patches of 40 px have 4800 values, and at most {MAX_INPUTS}'),
])
def test_kernels_that_cannot_be_calibrated_are_refused(settings, sizes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Calibrator(make_layer(**settings), sizes)


def test_without_held_out_images_nothing_is_calibrated():
    layer = make_layer()
    calibrator, x = Calibrator(layer, [4]), images(1)
    calibrator.update(x, {4: shrink(x, 4)})
    with pytest.raises(ValueError, match='0 pairs of patches'):
        calibrator.finish()
    assert not layer.is_tuned()
