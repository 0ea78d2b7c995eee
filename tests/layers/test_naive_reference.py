"""The layer against a float64 reference that uses nothing of it: loops, explicit Kronecker products and one pseudo-inverse.

Random sizes, dtypes, memory layouts, policies and parameterizations.
"""
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from mspe_mm.layers.downsampling import Downsampling
from mspe_mm.layers.host_layout import HostLayout
from mspe_mm.layers.patch_embed import MultiScalePatchEmbed

# Relative to the largest token: rounding of the kernels, of the convolution and of the result.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05}


def resize_axis(new: int, old: int, interpolation: str, antialias: bool) -> np.ndarray:
    """One axis of a resize, (new, old), from the definition of its filter."""
    matrix, scale = np.zeros((new, old)), old / new
    for i in range(new):
        if interpolation == 'area':
            for j in range(old):
                matrix[i, j] = max(0., min((i + 1) * scale, j + 1) - max(i * scale, j))
        elif interpolation == 'nearest':
            matrix[i, min(math.floor(i * scale), old - 1)] = 1
        else:    # bilinear: a triangle around the centre of the output pixel
            centre, width = (i + 0.5) * scale, max(scale, 1.) if antialias else 1.
            for j in range(-2 * old, 3 * old):
                weight = max(0., 1 - abs(j + 0.5 - centre) / width)
                if antialias and 0 <= j < old:    # cut off at the border
                    matrix[i, j] += weight
                elif not antialias:    # the border pixel goes on for ever
                    matrix[i, min(max(j, 0), old - 1)] += weight
        matrix[i] /= matrix[i].sum()
    return matrix


def reach(patch: int, patch_size: int, kernel_size: int) -> tuple[int, int]:
    """Pixels before and from a patch's first pixel on that a kernel sees: those of the pretrained one, at the new scale."""
    if kernel_size == patch_size:
        return 0, patch
    before = math.ceil(kernel_size // 2 * patch / patch_size)
    return before, max(before + 1, math.ceil((kernel_size - kernel_size // 2) * patch / patch_size))


def resized(weight: np.ndarray, new: tuple[int, int], old: int, geometry: tuple[int, int],
            model: Downsampling) -> np.ndarray:
    """A kernel (D, C, h, w) for patches of ``old`` px on patches of ``new`` px, by the pseudo-inverse of the whole map.

    The map is one matrix over all pixels of the smallest window in which pixels of both sizes line up.
    """
    matrices, places = [], []
    for p in new:
        (before, after), (old_before, old_after) = reach(p, *geometry), reach(old, *geometry)
        step, old_step = p // math.gcd(p, old), old // math.gcd(p, old)
        units = [max(math.ceil(n / step), math.ceil(o / old_step))
                 for n, o in ((before, old_before), (after, old_after))]
        axis = resize_axis(sum(units) * step, sum(units) * old_step, model.interpolation, model.antialias)
        matrices.append(axis[units[0] * step - before:][:before + after])
        places.append((units[0] * old_step - old_before, old_before + old_after, sum(units) * old_step))
    padded = np.zeros((*weight.shape[:2], *(length for _, _, length in places)))
    (top, height, _), (left, width, _) = places
    padded[:, :, top:top + height, left:left + width] = weight
    whole = np.kron(*matrices)    # of all pixels to all pixels
    out = padded.reshape(-1, padded.shape[2] * padded.shape[3]) @ np.linalg.pinv(whole.T, rcond=1e-12).T
    return out.reshape(*weight.shape[:2], *(m.shape[0] for m in matrices))


def embedded(layer: MultiScalePatchEmbed, image: torch.Tensor) -> np.ndarray:
    """Tokens (B, rows, columns, D) of a float64 image, patch by patch."""
    height, width = image.shape[-2:]
    (rows, columns), p = layer.grid_size, layer.patch_size
    base = layer.base.weight.detach().double().numpy()
    size = max(1, height // rows), max(1, width // columns)
    if layer.kernel_policy == 'isotropic':
        size = (min(size), ) * 2
    seen = (size[0] * rows, size[1] * columns) if layer.kernel_policy == 'isotropic' else (height, width)
    distances = {k: (k * rows - seen[0])**2 + (k * columns - seen[1])**2 for k in layer.kernel_sizes}
    nearest = max(k for k, distance in distances.items() if distance == min(distances.values()))
    if layer.kernel_policy == 'constant':
        size, nearest = (p, p), p
    geometry = p, base.shape[-1]

    def carried(weight, old):
        return weight if size == (old, old) else resized(weight, size, old, geometry, layer.downsampling)

    bias = layer.base.bias.detach().double().numpy()
    weight = carried(base, p)
    if str(nearest) in layer.kernels:
        own = layer.kernels[str(nearest)]
        correction, shift = carried(own.weight.detach().double().numpy(), nearest), own.bias.detach().double().numpy()
        unit = np.sqrt((base**2).mean()) if layer.parameterization == 'relative' else 1.
        native = layer.parameterization == 'native'
        weight, bias = (correction, shift) if native else (weight + unit * correction, bias + unit * shift)
    counts = [-(-length // k) for length, k in zip((height, width), size)]
    before, after = zip(*(reach(k, *geometry) for k in size))
    canvas = F.pad(image, (before[1], counts[1] * size[1] + after[1], before[0], counts[0] * size[0] + after[0])).numpy()
    tokens = np.zeros((len(image), *counts, len(weight)))
    for y in range(counts[0]):
        for x in range(counts[1]):
            patch = canvas[:, :, y * size[0]:, x * size[1]:][:, :, :weight.shape[2], :weight.shape[3]]
            tokens[:, y, x] = patch.reshape(len(image), -1) @ weight.reshape(len(weight), -1).T + bias
    return tokens


LAYOUTS = {
    'contiguous': lambda x: x,
    'channels_last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'transposed': lambda x: x.mT.contiguous().mT,
    'strided': lambda x: F.interpolate(x.float(), scale_factor=2).to(x)[..., ::2, ::2],
    'expanded': lambda x: x[:1].expand(len(x), -1, -1, -1),
}


@pytest.mark.parametrize('overlaps', [False, True])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_layer_equals_the_naive_reference(overlaps, data):
    patch_size = data.draw(st.sampled_from([2, 4] if overlaps else [2, 4, 8]))
    base_kernel = patch_size + data.draw(st.sampled_from([1, 3])) if overlaps else patch_size
    native = sorted(data.draw(st.sets(st.integers(1, patch_size + 2), max_size=3)) | {patch_size})
    grid = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    interpolation, antialias = data.draw(st.sampled_from([('bilinear', True), ('bilinear', False), ('area', False)]))
    dtype = data.draw(st.sampled_from(list(TOLERANCES)))
    layer = MultiScalePatchEmbed(
        2, 3, patch_size, grid, native, base_kernel=base_kernel, fit='floor', tune_base=data.draw(st.booleans()),
        kernel_policy=data.draw(st.sampled_from(['fixed', 'isotropic', 'constant'])),
        parameterization=data.draw(st.sampled_from(['native', 'residual', 'relative'])),
        downsampling=dict(interpolation=interpolation, antialias=antialias),
        host=HostLayout(layout='NHWC')).to(dtype)
    seed = data.draw(st.integers(0, 99))
    for i, parameter in enumerate(layer.parameters()):
        parameter.data = noise(*parameter.shape, seed=seed + i).to(dtype)
    sizes = st.one_of(st.integers(1, 40), st.sampled_from([2048, 1021])) if not overlaps else st.integers(1, 24)
    size = data.draw(st.tuples(sizes, st.integers(1, 24)).flatmap(lambda pair: st.permutations(pair)))
    image = LAYOUTS[data.draw(st.sampled_from(list(LAYOUTS)))](noise(2, 2, *size, seed=seed).to(dtype))
    if max(layer.kernel_size(tuple(size))) > 300:    # the reference's matrix would not fit
        layer.grid_size = tuple(max(n, -(-length // 300)) for n, length in zip(layer.grid_size, size))
    layer.train(data.draw(st.booleans()))
    with torch.no_grad():
        tokens, counts = layer(image)
    expected = embedded(layer, image.double())
    assert tuple(counts) == expected.shape[1:3] == layer.token_grid(tuple(size))
    assert tokens.dtype == dtype
    scale = max(1., abs(expected).max())
    assert abs(tokens.double().numpy() - expected).max() <= TOLERANCES[dtype] * scale
