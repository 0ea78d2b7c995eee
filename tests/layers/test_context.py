"""Kernels that see beyond their patches, against dense solutions in float64 and plain convolutions of padded images."""
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MODELS, in_threads, layer_of, noise, randomize
from hypothesis import given, settings
from hypothesis import strategies as st

from mspe_mm import InputError
from mspe_mm.core import MultiScalePatchEmbed, PatchGeometry, pi_resize, resize_image, resize_matrix

GRID = (3, 4)
PVT = dict(patch_size=4, base_kernel=7, kernel_sizes=(1, 2, 4))
layouts = pytest.mark.parametrize('layout', [dict(), PVT], ids=['patches', 'overlapping'])
parameterizations = pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])
correlations = st.sampled_from([0.3, 0.9, 0.99])


def make_layer(context=2, **changes) -> MultiScalePatchEmbed:
    """A small layer, 8 channels out; patches of 8 px, base resolution 24 x 32, for photographs."""
    settings = dict(embed_dims=8, patch_size=8, kernel_sizes=(2, 4, 6, 8), grid_size=GRID, correlation=0.9, context=context)
    return layer_of(**{**settings, **changes})


def tuned(layer: MultiScalePatchEmbed) -> MultiScalePatchEmbed:
    randomize(layer.kernels)
    return layer


def image(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return noise(batch, 3, height, width, dtype=torch.float32)


# -- How far kernels reach ---------------------------------------------------------------------------------------------


@given(st.integers(1, 32), st.integers(0, 6), st.booleans(), st.integers(1, 64))
def test_context_is_added_on_both_sides_below_the_base_patch_size_alone(patch_size, context, overlaps, patch):
    kernel_size = 2 * patch_size + 1 if overlaps else patch_size
    plain, geometry = PatchGeometry(patch_size, kernel_size), PatchGeometry(patch_size, kernel_size, context)
    added = context if patch < patch_size else 0
    assert geometry.context_at(patch) == added
    assert geometry.reach(patch) == tuple(side + added for side in plain.reach(patch))
    assert geometry.kernel(patch) == plain.kernel(patch) + 2 * added


def test_context_between_the_sizes_that_are_named_is_that_of_the_nearest_and_of_the_larger_of_two():
    geometry = PatchGeometry(16, 16, {12: 1, 4: 3, '8': 2})
    assert [geometry.context_at(p) for p in range(1, 18)] == [3] * 5 + [2] * 4 + [1] * 6 + [0, 0]


def test_context_of_one_number_for_all_sizes_is_that_number():
    assert PatchGeometry(16, 16, {4: 2, 8: 2}) == PatchGeometry(16, 16, 2)
    assert make_layer({2: 1, 4: 1}).context == 1
    assert make_layer({4: 1, 2: 3}).context == {2: 3, 4: 1}


@pytest.mark.parametrize('context', [
    -1, 1.5, True, '2', None, [2], {}, {4: -1}, {0: 2}, {8: 2}, {9: 2}, {'four': 2}, {4: '2'}])
def test_context_that_is_no_number_of_pixels_is_refused_by_name(context):
    with pytest.raises(ValueError, match=r'context must be a number of pixels from 0.*below 8 px, got'):
        make_layer(context)


def test_the_layer_prints_its_context():
    assert 'context=0' in repr(make_layer(0))
    assert 'context={2: 3, 4: 1}' in repr(make_layer({2: 3, 4: 1}))


@layouts
def test_kernels_have_their_extent_and_the_base_kernel_has_its_own(layout):
    layer, plain = (make_layer(context, **layout, tune_base=True) for context in (2, 0))
    for k, kernel in layer.kernels.items():
        extent = plain.kernels[k].weight.shape[-1] + (4 if int(k) < layer.patch_size else 0)
        assert kernel.weight.shape == (8, 3, extent, extent)
    assert layer.base.weight.shape == plain.base.weight.shape


# -- The prior in closed form ------------------------------------------------------------------------------------------

geometries = st.one_of(
    st.builds(lambda p, context: PatchGeometry(p, p, context), st.integers(2, 9), st.integers(1, 4)),
    st.builds(lambda kernel, context: PatchGeometry(4, kernel, context), st.sampled_from([5, 7]), st.integers(1, 3)))


def axis(geometry, new, old, model, patches=25):
    """One axis of a whole image of base pixels for patches of ``old`` px: what the new kernel sees of it after resizing,
    which pixels the old kernel sees, (seen, image) both."""
    middle = patches // 2
    (before, after), (old_before, old_after) = geometry.reach(new), geometry.reach(old)
    seen = resize_matrix(patches * new, patches * old, *model)[middle * new - before:middle * new + after]
    own = torch.eye(patches * old, dtype=torch.float64)[middle * old - old_before:middle * old + old_after]
    return seen, own


def covariance(length, correlation):
    places = torch.arange(length, dtype=torch.float64)
    return correlation**(places[:, None] - places).abs()


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize(('kernel_size', 'new', 'context'), [(3, (1, 2), 1), (3, (2, 2), 2), (5, (2, 1), 1)])
def test_the_prior_is_the_dense_solution_over_all_pixels_of_an_image(model, kernel_size, new, context):
    """``(B S B^T)^-1 B S E^T vec(w)`` with B and S of both axes at once, of all pixels to all pixels."""
    geometry = PatchGeometry(3, kernel_size, context)
    weight = noise(2, 2, kernel_size, kernel_size)
    (rows, own_rows), (columns, own_columns) = (axis(geometry, p, 3, model, patches=11) for p in new)
    b, e = torch.kron(rows, columns), torch.kron(own_rows, own_columns)
    s = torch.kron(*(covariance(m.shape[1], 0.9) for m in (rows, columns)))
    bs = b @ s
    expected = torch.linalg.solve(bs @ b.T, bs @ (weight.flatten(2) @ e).flatten(0, 1).T).T
    found = geometry.resize(weight, new, (3, 3), *model, 0.9)
    torch.testing.assert_close(found.flatten(2).flatten(0, 1), expected, rtol=1e-8, atol=1e-8)


@settings(max_examples=50)
@given(data=st.data(), model=st.sampled_from(MODELS), correlation=st.just(0.) | correlations)
def test_what_the_resized_kernel_misses_is_uncorrelated_with_every_pixel_it_sees(data, model, correlation):
    """The normal equations, ``B S (B^T w' - E^T w) = 0``: of the pretrained kernel, and of kernels of other sizes."""
    geometry = data.draw(geometries)
    below = st.integers(1, geometry.patch_size - 1)
    old, new = data.draw(st.integers(1, geometry.patch_size) if correlation else below), data.draw(st.tuples(below, below))
    weight = noise(geometry.kernel(old), geometry.kernel(old))
    (rows, own_rows), (columns, own_columns) = (axis(geometry, p, old, model) for p in new)
    found = geometry.resize(weight, new, (old, old), *model, correlation)
    assert found.shape == tuple(map(geometry.kernel, new))
    vertical, horizontal = (covariance(m.shape[1], correlation) for m in (rows, columns))
    missed = rows.T @ found @ columns - own_rows.T @ weight @ own_columns
    residual = rows @ vertical @ missed @ horizontal @ columns.T
    assert residual.abs().max() <= 1e-8 * weight.abs().sum()


@settings(max_examples=25)
@given(model=st.sampled_from(MODELS), patch=st.integers(1, 7), correlation=correlations)
def test_the_more_context_the_less_is_missed(model, patch, correlation):
    errors = []
    for context in (0, 1, 2, 4):
        geometry, weight = PatchGeometry(8, 8, context), noise(8, 8)
        seen, own = axis(geometry, patch, 8, model, patches=15)
        root = torch.linalg.cholesky(covariance(seen.shape[1], correlation))
        found = geometry.resize(weight, (patch, patch), (8, 8), *model, correlation)
        errors.append((root.T @ (seen.T @ found @ seen - own.T @ weight @ own) @ root).norm().item())
    assert all(more <= less * (1 + 1e-9) for less, more in zip(errors, errors[1:]))


@settings(max_examples=25)
@given(st.sampled_from(MODELS), st.tuples(st.integers(1, 24), st.integers(1, 24)), st.sampled_from([0., 0.99]))
def test_without_context_it_is_the_kernel_of_before_bit_for_bit(model, size, correlation):
    layer = layer_of(embed_dims=4, interpolation=model[0], antialias=model[1], correlation=correlation)
    with_context = layer.sharing_base(context=3)
    weight = layer.base.weight
    assert torch.equal(layer.resize_kernel(weight, size), pi_resize(weight, size, *layer.downsampling.settings))
    if min(size) >= 16:
        assert torch.equal(with_context.resize_kernel(weight, size), layer.resize_kernel(weight, size))


@layouts
@settings(max_examples=25)
@given(height=st.integers(1, 12), width=st.integers(1, 12), context=st.integers(1, 3))
def test_without_correlation_weights_are_zero_outside_of_the_patch_and_pi_resize_inside(layout, height, width, context):
    layer, plain = (make_layer(m, **layout, correlation=0.).double() for m in (context, 0))
    weight = noise(*plain.base.weight.shape)
    found, expected = layer.resize_kernel(weight, (height, width)), plain.resize_kernel(weight, (height, width))
    rows, columns = (layer.geometry.context_at(p) for p in (height, width))
    torch.testing.assert_close(found, F.pad(expected, (columns, columns, rows, rows)), rtol=1e-12, atol=1e-12)


# -- The layer ---------------------------------------------------------------------------------------------------------


@layouts
@parameterizations
@pytest.mark.parametrize('tune', [False, True])
def test_the_base_resolution_and_those_above_are_without_context_bit_for_bit(layout, parameterization, tune):
    plain = make_layer(0, **layout, parameterization=parameterization)
    layer = make_layer(2, **layout, parameterization=parameterization)
    layer.load_state_dict({name: value for name, value in plain.state_dict().items() if 'kernels' not in name}, strict=True)
    assert not layer.is_tuned()
    if tune:
        tuned(layer)
    p = layer.patch_size
    for scale in (1, 2):
        x = image(p * scale * GRID[0], p * scale * GRID[1])
        assert torch.equal(layer(x)[0], plain(x)[0])
    x = image(p * GRID[0] // 2, p * GRID[1] // 2)
    assert not torch.equal(layer(x)[0], plain(x)[0])


def continued(x: torch.Tensor, rows: int, columns: int, mode: str = 'reflect') -> torch.Tensor:
    """NumPy's padding of the image: ``'reflect'``, or ``'edge'``."""
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (rows, rows), (columns, columns)), mode=mode))


@parameterizations
@pytest.mark.parametrize('size', [(6, 8), (6, 24), (12, 32), (24, 12), (30, 20), (18, 64)])
def test_tokens_are_the_convolution_of_the_image_and_its_reflection(parameterization, size):
    layer = tuned(make_layer({2: 3, 4: 1}, parameterization=parameterization)).double()
    x, patch = image(*size).double(), (size[0] // GRID[0], size[1] // GRID[1])
    rows, columns = (layer.geometry.context_at(p) for p in patch)
    weight, bias = layer.sized_kernel(patch, layer.kernel_index(size))
    assert weight.shape[-2:] == (patch[0] + 2 * rows, patch[1] + 2 * columns)
    padded = continued(x, rows, columns)
    tokens, grid = layer(x)
    assert grid == GRID
    torch.testing.assert_close(tokens, F.conv2d(padded, weight, bias, stride=patch).flatten(2).mT)


@pytest.mark.parametrize('size', [(3, 4), (3, 8), (3, 32)])
def test_an_image_no_larger_than_the_context_is_continued_by_its_edge(size):
    layer = tuned(make_layer(3)).double()
    x, patch = image(*size).double(), layer.kernel_size(size)
    weight, bias = layer.sized_kernel(patch, layer.kernel_index(size))
    rows, columns = (layer.geometry.context_at(p) for p in patch)
    expected = F.conv2d(continued(x, rows, columns, 'edge'), weight, bias, stride=patch)
    torch.testing.assert_close(layer(x)[0], expected.flatten(2).mT)


@pytest.mark.parametrize('size', [(6, 8), (12, 16), (18, 24)])
def test_the_prior_misses_little_of_a_ramp_of_brightness_at_the_edge(size):
    """With zeros beyond the edge, tokens there miss 1% to 6% of the stock tokens' energy."""
    layer = make_layer(3, correlation=0.99, patch_size=8, grid_size=(6, 8)).double()
    places = torch.linspace(0.5, 1.5, 64, dtype=torch.float64)
    x = (places[:48, None] + places)[None, None].expand(1, 3, -1, -1).contiguous()
    stock = layer(x)[0]
    missed = layer(resize_image(x, tuple(2 * n for n in size)))[0] - stock
    edge = torch.ones(6, 8, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    energy, missed_energy = (tokens.unflatten(1, (6, 8))[:, edge].square().mean() for tokens in (stock, missed))
    assert missed_energy < 1e-3 * energy


@parameterizations
@pytest.mark.parametrize('size', [(3, 4), (6, 8), (9, 4), (6, 16)])
def test_overlapping_patches_have_the_hosts_zeros_around_the_image(parameterization, size):
    layer = tuned(make_layer(2, **PVT, parameterization=parameterization)).double()
    x, patch = image(*size).double(), (size[0] // GRID[0], size[1] // GRID[1])
    weight, bias = layer.sized_kernel(patch, layer.kernel_index(size))
    (top, bottom), (left, right) = (layer.geometry.reach(p) for p in patch)
    padded = F.pad(x, (left, right, top, bottom))
    expected = F.conv2d(padded, weight, bias, stride=patch)[:, :, :GRID[0], :GRID[1]]
    tokens, grid = layer(x)
    assert grid == GRID
    torch.testing.assert_close(tokens, expected.flatten(2).mT)


@layouts
@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(['corner', 'same', None]),
       st.sampled_from(['fixed', 'isotropic', 'constant']), st.sampled_from(['nearest', 'floor']))
def test_every_image_has_the_token_grid_that_it_has_without_context(layout, height, width, padding, policy, fit):
    padding = 'corner' if layout else padding
    layer = make_layer({1: 3, 2: 1}, **layout, padding=padding, kernel_policy=policy, fit=fit).eval()
    size = height, width
    if padding is None and any(length < k for length, k in zip(layer.fitted_size(size), layer.kernel_size(size))):
        return    # refused: there is no room for a patch
    with torch.no_grad():
        tokens, grid = layer(image(height, width, 1))
    assert grid == layer.token_grid((height, width)) == make_layer(
        0, **layout, padding=padding, kernel_policy=policy, fit=fit)(image(height, width, 1))[1]
    assert tokens.isfinite().all()


def test_a_padded_canvas_is_seen_as_it_is():
    """A detector's canvas: kernels at the image's edge see the canvas beyond it."""
    layer, x = tuned(make_layer(2)), image(12, 16)
    x[:, :, 8:] = 0.
    tokens = layer(x)[0].unflatten(1, GRID)
    x[:, :, 8:10] = 1.
    changed = layer(x)[0].unflatten(1, GRID)
    assert torch.equal(changed[:, 0], tokens[:, 0])
    assert (changed[:, 1:] != tokens[:, 1:]).any(-1).all()


# -- Training ----------------------------------------------------------------------------------------------------------


@layouts
@parameterizations
@pytest.mark.parametrize('size', [(1, 2), (2, 2), (3, 1)])
def test_gradients_are_those_of_finite_differences(layout, parameterization, size):
    layer = make_layer(1, **layout, embed_dims=1, in_channels=1, parameterization=parameterization).double()
    x, index = noise(1, 1, GRID[0] * size[0], GRID[1] * size[1]), 0
    own = layer.kernels[str(layer.kernel_sizes[index])]

    def tokens(weight, bias):
        name = f'kernels.{layer.kernel_sizes[index]}'
        with layer.force_kernel(index):
            return torch.func.functional_call(layer, {f'{name}.weight': weight, f'{name}.bias': bias}, (x, ))[0]

    assert torch.autograd.gradcheck(tokens, (noise(*own.weight.shape).requires_grad_(), noise(1).requires_grad_()))


@layouts
@parameterizations
def test_gradients_reach_the_whole_window(layout, parameterization):
    layer = make_layer(2, **layout, parameterization=parameterization)
    k = layer.kernel_sizes[1]
    layer(image(k * GRID[0], k * GRID[1]))[0].square().sum().backward()
    assert (layer.kernels[str(k)].weight.grad != 0).all()
    assert layer.kernels[str(layer.kernel_sizes[0])].weight.grad is None


@layouts
@parameterizations
@pytest.mark.parametrize('correlation', [0., 0.9])
def test_set_kernel_sets_what_the_layer_embeds_by(layout, parameterization, correlation):
    layer = make_layer(2, **layout, parameterization=parameterization, correlation=correlation).double()
    k = layer.kernel_sizes[0]
    weight, bias = noise(*layer.kernels[str(k)].weight.shape), noise(8)
    layer.set_kernel(k, weight, bias)
    for found, expected in zip(layer.sized_kernel((k, k), 0), (weight, bias)):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('change', ['tuned', 'stock', 'without context', 'overlapping'])
def test_kernels_of_before_the_image_was_continued_are_refused_where_they_see_beyond_it(change):
    settings = dict(context=0 if change == 'without context' else 2, **(PVT if change == 'overlapping' else {}))
    layer, host = tuned(make_layer(**settings)), torch.nn.Sequential(make_layer(**settings))
    state = torch.nn.Sequential(layer).state_dict()
    host.load_state_dict(state)
    state._metadata['0']['version'] = 1
    if change == 'tuned':
        with pytest.raises(InputError, match=r'earlier version of mspe_mm, with zeros beyond the edge.*tune them anew'):
            host.load_state_dict(state)
        return
    if change == 'stock':
        for name in [name for name in state if '.kernels.' in name]:
            del state[name]
    host.load_state_dict(state, strict=True)


def test_baselines_of_one_kernel_have_no_context_unless_it_is_given():
    layer = make_layer(2)
    assert layer.sharing_base().context == 2
    assert layer.single_kernel('fixed').context == 0
    assert layer.single_kernel('fixed', 0.9, layer.context).context == 2
    x = image(12, 16)
    torch.testing.assert_close(layer.single_kernel('fixed', 0.9, 2)(x)[0], layer(x)[0])    # an untrained layer


# -- Windows and batches of several sizes ------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.tuples(st.integers(1, 7), st.integers(1, 7)), st.data())
def test_a_window_has_the_tokens_of_the_whole_image(patch, data):
    layer = tuned(make_layer({2: 3, 4: 1})).double().eval()
    cells = (7, 9)
    whole = noise(2, 3, cells[0] * patch[0], cells[1] * patch[1])
    rows = slice(*sorted(data.draw(st.lists(st.integers(0, cells[0]), min_size=2, max_size=2, unique=True))))
    columns = slice(*sorted(data.draw(st.lists(st.integers(0, cells[1]), min_size=2, max_size=2, unique=True))))
    top, left = rows.start * patch[0], columns.start * patch[1]
    window = whole[:, :, top:rows.stop * patch[0], left:columns.stop * patch[1]]
    grid = (rows.stop - rows.start, columns.stop - columns.start)
    with torch.no_grad(), layer.force_kernel(0):
        with layer.force_grid(cells):
            expected = layer(whole)[0].unflatten(1, cells)[:, rows, columns].flatten(1, 2)
        with layer.force_grid(grid), layer.window_of(whole, top, left):
            found, own_grid = layer(window)
    assert own_grid == grid
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_window_outside_of_its_image_is_refused():
    layer, whole = make_layer(), image(24, 32)
    sentence = r'window of 12 x 16 px at row 16 and column 0.*24 x 32'
    with layer.window_of(whole, 16, 0), pytest.raises(ValueError, match=sentence):
        layer(whole[:, :, 12:, :16])


@pytest.mark.parametrize(('size', 'fit'), [((11, 16), 'nearest'), ((13, 16), 'floor')])
def test_a_window_that_is_not_whole_patches_sees_its_edges_as_an_image_does(size, fit):
    layer, whole = tuned(make_layer(fit=fit)), image(30, 40)
    window = whole[:, :, 5:5 + size[0], 7:7 + size[1]]
    expected = layer(window)[0]
    with layer.window_of(whole, 5, 7):
        assert torch.equal(layer(window)[0], expected)


def test_a_window_at_the_base_resolution_or_of_overlapping_patches_is_the_hosts():
    for layer, size in ((tuned(make_layer()), (24, 32)), (tuned(make_layer(**PVT)), (6, 8))):
        whole = image(2 * size[0], 2 * size[1])
        window = whole[:, :, 2:2 + size[0], 4:4 + size[1]]
        expected = layer(window)[0]
        with layer.window_of(whole, 2, 4):
            assert torch.equal(layer(window)[0], expected)


@layouts
def test_images_of_different_sizes_in_one_pass_are_embedded_as_each_alone(layout):
    layer = tuned(make_layer({1: 3, 2: 1}, **layout)).eval()
    p = layer.patch_size
    images = [noise(1, 3, k * GRID[0], k * GRID[1], dtype=torch.float32, seed=k) for k in (1, p, 2, p // 2, 1)]
    with torch.no_grad():
        expected = torch.cat([layer(x)[0] for x in images])
        with layer.embedding_each(images):
            torch.testing.assert_close(layer(layer.stand_in(images))[0], expected)


# -- The cache, threads, and programs made of a layer ------------------------------------------------------------------


@torch.no_grad()
def test_kernels_that_are_kept_are_those_that_are_computed_anew():
    layer = tuned(make_layer({2: 3, 4: 1})).eval()
    for size in [(6, 8), (12, 32), (24, 8), (6, 8), (12, 32)]:
        kept = layer(image(*size))[0]
        assert torch.equal(layer(image(*size))[0], kept)
        assert torch.equal(copy.deepcopy(layer).train()(image(*size))[0], kept)
    assert len(layer._cache) == 3


def test_threads_with_windows_of_different_images_do_not_meet():
    layer = tuned(make_layer(2)).eval().requires_grad_(False)
    images = [noise(1, 3, 36, 48, dtype=torch.float32, seed=seed) for seed in range(4)]

    def embedded(task):
        whole, top, left = images[task % 4], task % 24, task % 32
        with layer.window_of(whole, top, left):
            return layer(whole[:, :, top:top + 12, left:left + 16])[0]

    expected = [embedded(task) for task in range(24)]
    assert all(torch.equal(found, e) for found, e in zip(in_threads(embedded, range(24)), expected))
    assert len({e.sum().item() for e in expected}) == 24


@layouts
@pytest.mark.parametrize('mode', [torch.no_grad, torch.enable_grad])
def test_a_compiled_layer_gives_the_tokens_of_the_layer(layout, mode):
    layer = tuned(make_layer(2, **layout))
    layer.eval() if mode is torch.no_grad else layer.train()
    p = layer.patch_size // 2
    x = image(p * GRID[0], p * GRID[1])
    torch._dynamo.reset()
    with mode():
        found = torch.compile(layer, backend='aot_eager')(x)[0]
        torch.testing.assert_close(found, layer(x)[0], rtol=1e-4, atol=1e-5)


def test_under_autocast_and_in_half_precision_the_layer_has_context_too():
    layer, x = tuned(make_layer(2)).eval(), image(12, 16)
    with torch.no_grad():
        expected = layer(x)[0]
        with torch.autocast('cpu', torch.bfloat16):
            torch.testing.assert_close(layer(x)[0].float(), expected, rtol=0.1, atol=0.1)
        torch.testing.assert_close(layer.bfloat16()(x.bfloat16())[0].float(), expected, rtol=0.1, atol=0.1)
