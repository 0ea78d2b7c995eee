"""PI-resize against timm and against the algebra it claims; the resize matrices against the libraries they stand for."""
import functools
import inspect
import re

import cv2
import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, noise, relative_error, timm_resample
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mspe_mm.core import INTERPOLATIONS, pi_resize, resize_image, resize_matrix
from mspe_mm.layers.resize import _pi_factor

lengths = st.integers(1, 48)
small_lengths = st.integers(1, 12)
models = st.sampled_from(MODELS)
every_model = pytest.mark.parametrize(('interpolation', 'antialias'), MODELS)
seeds = st.integers(0, 1000)


def growing(smallest: int = 1, largest: int = 12):
    """(length before, length after) of an axis that does not shrink."""
    return st.tuples(st.integers(smallest, largest), st.integers(smallest, largest)).map(sorted)


def kron_matrix(size, shape, interpolation, antialias):
    """B over whole patches, (height width) x (h w): ``B vec(x) = vec(resize(x))``."""
    rows = resize_matrix(size[0], shape[0], interpolation, antialias)
    return torch.kron(rows, resize_matrix(size[1], shape[1], interpolation, antialias))


# -- PI-resize ---------------------------------------------------------------------------------------------------------


@given(lengths, lengths, lengths, lengths, seeds)
@example(16, 16, 32, 32, 0)
@example(16, 16, 48, 48, 0)
@example(48, 48, 16, 16, 0)
@example(16, 16, 4, 6, 0)
@example(1, 1, 48, 48, 0)
@example(48, 48, 1, 1, 0)
def test_pi_resize_equals_timm(h, w, height, width, seed):
    assume(min(h * w, height * width) <= 400)    # timm inverts a matrix over whole patches: seconds beyond this
    weight = noise(4, 3, h, w, dtype=torch.float32, seed=seed)
    ours = pi_resize(weight, (height, width), 'bicubic', True)
    assert relative_error(ours, timm_resample(weight, (height, width))) <= 1e-5


@given(models, small_lengths, small_lengths, small_lengths, small_lengths, seeds)
def test_pi_resize_is_the_pseudo_inverse_over_whole_patches(model, h, w, height, width, seed):
    weight = noise(h, w, seed=seed)
    matrix = kron_matrix((height, width), (h, w), *model)
    expected = torch.linalg.pinv(matrix.T) @ weight.flatten()
    torch.testing.assert_close(pi_resize(weight, (height, width), *model).flatten(), expected, rtol=1e-10, atol=1e-10)


@given(models, growing(), growing(), seeds)
@example(('bilinear', True), (16, 32), (16, 48), 0)
@example(('bicubic', True), (47, 48), (47, 48), 0)
def test_growing_is_exact(model, vertical, horizontal, seed):
    """Eq. 5 holds for every downsampling model: growing, each of them has full column rank."""
    (h, height), (w, width) = vertical, horizontal
    x, weight = noise(1, 1, h, w, seed=seed), noise(1, 1, h, w, seed=seed + 1)
    resized = resize_image(x, (height, width), *model)
    product = (resized * pi_resize(weight, (height, width), *model)).sum()
    scale = x.norm() * weight.norm()
    assert (product - (x * weight).sum()).abs() <= 1e-10 * scale


@every_model
def test_shrinking_is_the_least_squares_optimum(interpolation, antialias):
    """For white noise E(<Bx, w'> - <x, w>)^2 = ||B^T w' - w||^2."""
    for shape, size in [((16, 16), (4, 6)), ((8, 12), (3, 5)), ((7, 5), (1, 1)), ((12, 9), (5, 9))]:
        weight = noise(*shape)
        matrix = kron_matrix(size, shape, interpolation, antialias)
        best = torch.linalg.lstsq(matrix.T, weight.flatten()[:, None]).solution
        torch.testing.assert_close(pi_resize(weight, size, interpolation, antialias).flatten(), best[:, 0],
                                   rtol=1e-10, atol=1e-10)


@given(models, small_lengths, small_lengths, small_lengths, small_lengths, st.floats(0.01, 0.99), seeds)
@example(('bilinear', True), 12, 12, 3, 3, 0.99, 0)
def test_with_correlation_shrinking_is_the_optimum_for_patches_of_that_covariance(model, h, w, height, width, rho, seed):
    """For x of covariance S, E(<Bx, w'> - <x, w>)^2 = |L^T (B^T w' - w)|^2 with S = L L^T."""
    weight = noise(h, w, seed=seed)
    rows, columns = (rho**(torch.arange(n)[:, None] - torch.arange(n)).abs().double() for n in (h, w))
    root = torch.linalg.cholesky(torch.kron(rows, columns))
    matrix = kron_matrix((height, width), (h, w), *model)
    best = torch.linalg.pinv(root.T @ matrix.T) @ root.T @ weight.flatten()
    error, least = ((root.T @ (matrix.T @ solution - weight.flatten())).norm()
                    for solution in (pi_resize(weight, (height, width), *model, rho).flatten(), best))
    assert error <= least + 1e-10 * weight.norm()
    if height <= h and width <= w:    # then there is one optimum
        covariance = matrix @ root @ root.T
        expected = torch.linalg.solve(covariance @ matrix.T, covariance @ weight.flatten())
        torch.testing.assert_close(pi_resize(weight, (height, width), *model, rho).flatten(), expected, rtol=1e-8, atol=1e-8)


@given(growing(), growing(), st.floats(0, 0.99), seeds)
def test_correlation_makes_no_difference_to_growing(vertical, horizontal, rho, seed):
    (h, height), (w, width) = vertical, horizontal
    weight = noise(2, h, w, seed=seed)
    assert torch.equal(pi_resize(weight, (height, width), correlation=rho), pi_resize(weight, (height, width)))


def test_a_correlation_of_zero_is_pi_resize():
    weight = noise(16, 16)
    assert torch.equal(pi_resize(weight, (4, 6), correlation=0), pi_resize(weight, (4, 6)))
    torch.testing.assert_close(pi_resize(weight, (4, 6), correlation=1e-9), pi_resize(weight, (4, 6)))


@pytest.mark.parametrize('correlation', [-0.1, 1., 1.5, float('nan')])
def test_a_correlation_out_of_range_is_refused(correlation):
    with pytest.raises(ValueError, match=f'correlation must be from 0 to less than 1, got {correlation}'):
        pi_resize(noise(4, 4), (2, 2), correlation=correlation)


def test_growing_one_axis_and_shrinking_the_other_is_the_shortest_least_squares_solution():
    weight = noise(6, 9)
    matrix = kron_matrix((10, 4), (6, 9), 'bilinear', True)
    best = torch.linalg.lstsq(matrix.T, weight.flatten()[:, None], driver='gelsd').solution
    torch.testing.assert_close(pi_resize(weight, (10, 4)).flatten(), best[:, 0], rtol=1e-10, atol=1e-10)


@every_model
def test_going_16_to_4_to_6_loses_what_16_to_6_keeps(interpolation, antialias):
    weight = noise(16, 16)
    via_4 = pi_resize(pi_resize(weight, (4, 4), interpolation, antialias), (6, 6), interpolation, antialias)
    assert relative_error(via_4, pi_resize(weight, (6, 6), interpolation, antialias)) > 0.1


@pytest.mark.parametrize('size', [(6, 9), (2, 3), (6, 2), (1, 1), (3, 4)])
@every_model
def test_gradcheck(interpolation, antialias, size):
    weight = noise(2, 1, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: pi_resize(w, size, interpolation, antialias), (weight, ))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_kept_and_computed_in_float32(dtype):
    weight = noise(4, 3, 16, 16).to(dtype)
    resized = pi_resize(weight, (6, 5))
    assert resized.dtype == dtype
    assert torch.equal(resized, pi_resize(weight.float(), (6, 5)).to(dtype))


@given(models, lengths, lengths, lengths, lengths, seeds)
@example(('bicubic', True), 47, 47, 48, 48, 0)
def test_float32_is_as_near_to_float64_as_its_roundings_are(model, h, w, height, width, seed):
    """Sums of h and of w products, and the rounding of both factors: the a priori bound of two matrix products."""
    weight = noise(2, h, w, dtype=torch.float32, seed=seed)
    resized, exact = pi_resize(weight, (height, width), *model), pi_resize(weight.double(), (height, width), *model)
    assert resized.dtype == torch.float32
    rows = _pi_factor(height, h, *model, 0., weight.device, torch.float64).abs()
    columns = _pi_factor(width, w, *model, 0., weight.device, torch.float64).abs()
    roundings = (h + w + 2) * torch.finfo(torch.float32).eps / 2
    bound = roundings / (1 - roundings) * (rows @ weight.double().abs() @ columns.T)
    assert ((resized - exact).abs() <= bound + torch.finfo(torch.float32).tiny).all()


def test_autocast_does_not_lower_the_precision():
    weight = noise(4, 3, 16, 16, dtype=torch.float32).requires_grad_()
    expected = pi_resize(weight, (6, 5))
    (expected_gradient, ) = torch.autograd.grad(expected.square().sum(), weight)
    _pi_factor.cache_clear()
    with torch.autocast('cpu', torch.bfloat16):
        resized = pi_resize(weight, (6, 5))
    (gradient, ) = torch.autograd.grad(resized.square().sum(), weight)
    assert torch.equal(resized, expected)
    assert torch.equal(gradient, expected_gradient)


def test_weights_resized_in_inference_mode_first_can_be_trained_through_later():
    _pi_factor.cache_clear()
    weight = noise(4, 3, 16, 16).requires_grad_()
    with torch.inference_mode():
        seen = pi_resize(weight, (6, 5))
    resized = pi_resize(weight, (6, 5))
    resized.sum().backward()
    assert torch.equal(resized, seen)
    assert weight.grad.abs().sum() > 0


def test_every_device_has_factors_of_its_own():
    weight = noise(4, 3, 16, 16)
    _pi_factor.cache_clear()
    expected = pi_resize(weight, (6, 6))
    assert pi_resize(weight.to('meta'), (6, 6)).device.type == 'meta'
    assert _pi_factor.cache_info().currsize == 2
    assert torch.equal(pi_resize(weight, (6, 6)), expected)


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


class Products(TorchDispatchMode):
    """Notes the dtypes of all matrix products."""

    def __init__(self):
        super().__init__()
        self.dtypes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm, torch.ops.aten.matmul):
            self.dtypes.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('precision', ['highest', 'high', 'medium'])
@pytest.mark.parametrize('size', [(6, 6), (24, 20)])
def test_pi_resize_multiplies_in_float64_where_float32_is_rounded(matmul_precision, precision, size):
    """To TF32 or bfloat16: no device here has to round, so that the dtypes of the products are looked at."""
    weight = noise(4, 3, 16, 16, dtype=torch.float32)
    expected = pi_resize(weight.double(), size)
    matmul_precision(precision)
    with Products() as products:
        resized = pi_resize(weight, size)
    assert products.dtypes == {torch.float32 if precision == 'highest' else torch.float64}
    assert resized.dtype == torch.float32
    torch.testing.assert_close(resized.double(), expected, rtol=1e-5, atol=1e-5)


def test_pi_resize_multiplies_in_float64_where_the_flags_of_cuda_ask_for_tf32(matmul_precision):
    torch.backends.cuda.matmul.allow_tf32 = True    # the fixture takes it back
    with Products() as products:
        pi_resize(noise(4, 3, 16, 16, dtype=torch.float32), (6, 6))
    assert products.dtypes == {torch.float64}


@pytest.mark.parametrize('size', [(256, 1, 10, 12), (8, ), ()])
def test_pi_resize_refuses_a_size_that_is_not_two_numbers(size):
    with pytest.raises(ValueError, match=re.escape(f'resized to (height, width), got the size {size}')):
        pi_resize(noise(2, 3, 16, 16), size)


def test_factors_of_an_export_are_real_afterwards():
    """They were fake tensors once, which every later call of that size met."""
    class Resize(torch.nn.Module):
        def forward(self, weight):
            return pi_resize(weight, (5, 7))

    _pi_factor.cache_clear()
    weight = noise(2, 16, 16)
    exported = torch.export.export(Resize(), (weight, ), strict=False).module()
    assert torch.equal(exported(weight), pi_resize(weight, (5, 7)))
    _pi_factor.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        pi_resize(weight, (5, 7))
    assert type(_pi_factor(5, 16, 'bilinear', True, 0., weight.device, weight.dtype)) is torch.Tensor
    _pi_factor.cache_clear()
    torch.func.grad(lambda w: pi_resize(w, (5, 7)).sum())(weight)
    torch.func.vmap(lambda w: pi_resize(w, (5, 7)))(weight)
    assert torch.equal(exported(weight), pi_resize(weight, (5, 7)))


def test_the_factors_are_computed_once():
    _pi_factor.cache_clear()
    pi_resize(noise(16, 16), (6, 6))
    computed = _pi_factor.cache_info().misses
    pi_resize(noise(2, 3, 16, 16), (6, 6))
    assert computed == _pi_factor.cache_info().misses == 1


def test_a_weight_of_the_asked_size_is_returned_itself():
    weight = noise(4, 3, 16, 8)
    assert pi_resize(weight, (16, 8)) is weight


@pytest.mark.parametrize('size', [(0, 4), (4, 0), (-3, 4)])
def test_sizes_below_one_are_refused_with_the_size(size):
    number = str(min(size))
    with pytest.raises(ValueError, match=f'to {number} px'):
        pi_resize(noise(16, 16), size)
    with pytest.raises(ValueError, match=f'to {number} px'):
        resize_matrix(min(size), 16)
    with pytest.raises(ValueError, match=f'to {size[0]} x {size[1]}'):
        resize_image(noise(1, 3, 8, 8), size)
    with pytest.raises(ValueError, match='0 px'):
        resize_matrix(4, 0)


@pytest.mark.parametrize('function', [
    lambda name: pi_resize(noise(4, 4), (2, 2), name),
    lambda name: resize_image(noise(1, 3, 4, 4), (2, 2), name),
    lambda name: resize_image(noise(1, 3, 4, 4), (4, 4), name),
    lambda name: resize_matrix(2, 4, name),
])
def test_an_unknown_interpolation_is_refused_with_the_choices(function):
    with pytest.raises(ValueError, match=r"'lanczos'.*bilinear, bicubic, area, nearest"):
        function('lanczos')


def test_the_default_model_is_the_pipelines():
    """PIL's and mmcv's pillow backend's bilinear, the one that the configs use."""
    for function in (resize_matrix, resize_image, pi_resize):
        parameters = inspect.signature(function).parameters
        assert (parameters['interpolation'].default, parameters['antialias'].default) == ('bilinear', True)


# -- resize_image ------------------------------------------------------------------------------------------------------


def by_matrices(image, size, interpolation, antialias):
    rows = resize_matrix(size[0], image.shape[-2], interpolation, antialias).to(image.dtype)
    columns = resize_matrix(size[1], image.shape[-1], interpolation, antialias).to(image.dtype)
    return rows @ image @ columns.T


@given(models, st.tuples(st.integers(1, 2), st.sampled_from([1, 3]), small_lengths, small_lengths),
       st.tuples(small_lengths, small_lengths), st.booleans())
@example(('bilinear', True), (2, 3, 64, 96), (16, 40), False)
def test_resize_image_equals_the_matrices(model, shape, size, channels_last):
    assume(size[1] > 1)    # the next test's
    image = noise(*shape)
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(resize_image(image, size, *model), by_matrices(image, size, *model), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('shape', [(1, 3, 5, 4), (2, 1, 5, 4), (2, 3, 5, 1)])
@every_model
def test_resize_image_to_one_pixel_wide_equals_the_matrices(interpolation, antialias, shape):
    image = noise(*shape)
    torch.testing.assert_close(resize_image(image, (3, 1), interpolation, antialias),
                               by_matrices(image, (3, 1), interpolation, antialias), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('interpolation', INTERPOLATIONS)
def test_resize_image_keeps_dtype_and_precision_under_autocast(interpolation):
    image = noise(1, 3, 16, 16, dtype=torch.float32)
    expected = resize_image(image, (6, 5), interpolation)
    with torch.autocast('cpu', torch.bfloat16):
        resized = resize_image(image, (6, 5), interpolation)
    assert resized.dtype == torch.float32
    assert torch.equal(resized, expected)


def test_resize_image_returns_an_image_of_the_asked_size_itself():
    image = noise(1, 3, 8, 6)
    assert resize_image(image, (8, 6)) is image


# -- The matrices are the libraries' -----------------------------------------------------------------------------------
# In floating point the libraries neither round nor clip, so they are compared tightly, one axis at a time: resizing the
# columns of an identity gives the matrix. Positions in single precision, up to 100, leave errors of some 1e-5.


def opencv_matrix(out_size, in_size, flag):
    return cv2.resize(np.eye(in_size, dtype=np.float32), (in_size, out_size), interpolation=flag).reshape(out_size, in_size)


def pillow_matrix(out_size, in_size, flag):
    return np.asarray(Image.fromarray(np.eye(in_size, dtype=np.float32)).resize((in_size, out_size), flag))


def torch_matrix(out_size, in_size, mode):
    identity = torch.eye(in_size).expand(1, 3, -1, -1)
    return F.interpolate(identity, (out_size, in_size), mode=mode[0], antialias=mode[1])[0, 0].numpy()


@pytest.mark.parametrize(('interpolation', 'antialias', 'library'), [
    pytest.param('bilinear', True, functools.partial(pillow_matrix, flag=Image.Resampling.BILINEAR), id='pillow-bilinear'),
    pytest.param('bicubic', True, functools.partial(pillow_matrix, flag=Image.Resampling.BICUBIC), id='pillow-bicubic'),
    pytest.param('bilinear', False, functools.partial(opencv_matrix, flag=cv2.INTER_LINEAR), id='opencv-bilinear'),
    pytest.param('bicubic', False, functools.partial(opencv_matrix, flag=cv2.INTER_CUBIC), id='opencv-bicubic'),
    pytest.param('area', True, functools.partial(opencv_matrix, flag=cv2.INTER_AREA), id='opencv-area'),
    pytest.param('bilinear', True, functools.partial(torch_matrix, mode=('bilinear', True)), id='torch-bilinear-antialias'),
    pytest.param('bicubic', True, functools.partial(torch_matrix, mode=('bicubic', True)), id='torch-bicubic-antialias'),
    pytest.param('bilinear', False, functools.partial(torch_matrix, mode=('bilinear', False)), id='torch-bilinear'),
    pytest.param('bicubic', False, functools.partial(torch_matrix, mode=('bicubic', False)), id='torch-bicubic'),
])
def test_the_matrix_is_the_librarys(interpolation, antialias, library):
    for in_size in (*range(1, 20), 32, 47, 64, 100):
        for out_size in (*range(1, 20), 31, 48, 64, 75):
            if interpolation == 'area' and out_size > in_size:
                continue    # OpenCV's INTER_AREA is an area average only of images that do not grow
            expected = library(out_size, in_size)
            matrix = resize_matrix(out_size, in_size, interpolation, antialias).numpy()
            np.testing.assert_allclose(matrix, expected, rtol=0, atol=2e-5, err_msg=f'{in_size} to {out_size}')


def test_the_nearest_matrix_is_opencvs_and_torchs_up_to_ties():
    """Output i reads pixel floor(i * in / out); where that is an integer, rounding errors may take the pixel before."""
    for in_size in (*range(1, 20), 32, 47, 64, 100):
        for out_size in (*range(1, 20), 31, 48, 64, 75, 98):
            i = np.arange(out_size)
            exact, tie = i * in_size // out_size, i * in_size % out_size == 0
            image = np.arange(in_size, dtype=np.float32)
            ours = resize_matrix(out_size, in_size, 'nearest').argmax(1).numpy()
            opencv = cv2.resize(np.repeat(image[:, None], 2, 1), (2, out_size), interpolation=cv2.INTER_NEAREST)[:, 0]
            pytorch = F.interpolate(torch.from_numpy(image)[None, None], out_size, mode='nearest')[0, 0].numpy()
            for pixels in (ours, opencv, pytorch):
                assert np.all((pixels == exact) | (tie & (pixels == exact - 1))), f'{in_size} to {out_size}'


@every_model
def test_every_row_of_the_matrix_sums_to_one(interpolation, antialias):
    for in_size in range(1, 33):
        for out_size in range(1, 33):
            rows = resize_matrix(out_size, in_size, interpolation, antialias)
            assert rows.dtype == torch.float64
            assert rows.shape == (out_size, in_size)
            torch.testing.assert_close(rows.sum(1), torch.ones(out_size, dtype=torch.float64), rtol=1e-12, atol=1e-12)


# -- and so are whole 8-bit images, to their rounding ------------------------------------------------------------------
# Pillow resizes one axis, rounds and clips to 0..255, then resizes the other and rounds: 1/2 grey level after the second
# pass, and 1/2 times the L1 norm of a row from the first (1 for bilinear, 1.27 for bicubic).
# OpenCV rounds its weights to 11 bits, an error of up to 2^-12 each. Two linear ones still sum to 1: 255 / 2^12 grey levels
# per axis. Four cubic ones: 4 * 255 / 2^12 per axis, the first times the second's L1 norm (1.375). The linear vertical pass
# also cuts its input to 2^-7 and two products to 1/4 grey level; all round the result (1/2). Its area average only rounds.
PILLOW_BILINEAR, PILLOW_BICUBIC = 1.0, 0.5 + 0.5 * 1.27
OPENCV_BILINEAR = 0.5 + 2 * 255 / 2**12 + 2**-7 + 2 / 4
OPENCV_BICUBIC = 0.5 + (1 + 1.375) * 4 * 255 / 2**12
OPENCV_AREA = 0.5
ROUNDING_OF_FLOATS = 1e-3


def eight_bit_image(height, width, seed, low=0, high=255):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3), dtype=np.uint8, endpoint=True)


def largest_difference(image, resized, interpolation, antialias):
    """In grey levels, between what a library returned and ``B_h image B_w^T``."""
    height, width = resized.shape[:2]
    image = torch.from_numpy(image).double().permute(2, 0, 1)
    expected = by_matrices(image, (height, width), interpolation, antialias).clamp(0, 255).permute(1, 2, 0).numpy()
    return np.abs(resized - expected).max()


@given(lengths, lengths, lengths, lengths, seeds)
@example(240, 320, 60, 80, 0)
@example(240, 320, 90, 120, 0)
@example(240, 320, 120, 160, 0)
@example(240, 320, 180, 240, 0)
@example(60, 80, 240, 320, 0)
def test_8_bit_images_resized_by_mmcv_are_the_matrices_to_rounding(h, w, height, width, seed):
    image = eight_bit_image(h, w, seed)
    for backend, interpolation, antialias, bound in [('pillow', 'bilinear', True, PILLOW_BILINEAR),
                                                     ('cv2', 'bilinear', False, OPENCV_BILINEAR),
                                                     ('cv2', 'bicubic', False, OPENCV_BICUBIC)]:
        resized = mmcv.imresize(image, (width, height), interpolation=interpolation, backend=backend)
        assert largest_difference(image, resized, interpolation, antialias) <= bound + ROUNDING_OF_FLOATS, backend
    # Between its passes Pillow clips what a cubic filter overshoots. These grey levels stay within 0..255 throughout.
    image = eight_bit_image(h, w, seed, 64, 191)
    resized = mmcv.imresize(image, (width, height), interpolation='bicubic', backend='pillow')
    assert largest_difference(image, resized, 'bicubic', True) <= PILLOW_BICUBIC + ROUNDING_OF_FLOATS


@given(growing(largest=48), growing(largest=48), seeds)
@example((60, 240), (80, 320), 0)
@example((90, 240), (120, 320), 0)
def test_8_bit_images_shrunk_by_opencvs_area_are_the_matrices_to_rounding(vertical, horizontal, seed):
    (height, h), (width, w) = vertical, horizontal
    image = eight_bit_image(h, w, seed)
    resized = mmcv.imresize(image, (width, height), interpolation='area', backend='cv2')
    assert largest_difference(image, resized, 'area', True) <= OPENCV_AREA + ROUNDING_OF_FLOATS


@pytest.mark.parametrize('size', [(60, 80), (120, 160), (180, 240), (90, 200)])
def test_images_resized_in_pillow_and_on_the_device_agree_to_rounding(size):
    """The two ways to the same resolution, in the data pipeline and in the objective, may differ by rounding alone."""
    image = eight_bit_image(240, 320, 0)
    pillow = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    device = resize_image(torch.from_numpy(image).float().permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    assert np.abs(pillow - device).max() <= PILLOW_BILINEAR + ROUNDING_OF_FLOATS
