"""Calibrated kernels: patch kernels that give real images of another resolution the tokens of the base one, in closed form.

Over pairs of patches, x at the base resolution and u of the same place at another one (with its context, where the layer has
one), the calibrated kernel of every pretrained kernel w and bias b is the least squares solution

    min over w', b' of  E (<x, w> + b - <u, w'> - b')^2  +  ridge * s * |w' - w_0|^2,

the channels of the image taken together; s is the mean variance of the values of u, and ``w_0`` is w by PI-resize. Without
ridge this is ``w' = A^T vec(w)``, ``b' = b + <constant, vec(w)>`` for the regression (A, constant) of x on (u, 1). Least
squares is linear in its targets, so that the tokens are predicted directly and x need not be kept.

PI-resize solves the same problem for patches of white noise and a named downsampling model. Calibration measures the patches
and assumes no downsampling model. The ridge pulls towards PI-resize where the images determine too little.
"""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.context import with_context
from ..layers.patch_embed import MultiScalePatchEmbed
from .moments import PairMoments, token_error

MAX_INPUTS = 4096
RIDGES = (*(10.**exponent for exponent in range(-6, 3)), math.inf)


def extract_patches(images: Tensor, size: tuple[int, int], stride: tuple[int, int] | None = None,
                    padding: int | tuple[int, int] = 0) -> Tensor:
    """The patches that a convolution sees, as vectors in the order of its weights.

    Args:
        images: (B, C, H, W), floating point.
        size: (height, width) of a patch in pixels.
        stride: From one patch to the next, (vertical, horizontal); None for patches that do not overlap.
        padding: Zeros around the images, one number or (vertical, horizontal).

    Returns:
        (B, rows, columns, C * height * width): whole patches only. ``patches @ weight.flatten(1).T`` is the convolution.
    """
    stride = stride or size
    padding = (padding, padding) if isinstance(padding, int) else padding
    grid = [(length + 2 * pad - k) // step + 1
            for length, k, step, pad in zip(images.shape[-2:], size, stride, padding)]
    return F.unfold(images, size, padding=padding, stride=stride).mT.unflatten(1, grid)


def solve(moments: PairMoments, start: Tensor, ridges: Sequence[float], bias: bool = True) -> list[tuple[Tensor, Tensor]]:
    """The least squares solutions for several ridges (see the module).

    Args:
        moments: Of the pairs (u, t), t the tokens asked for.
        start: ``w_0`` of every token channel, (D, d): what the ridge pulls towards.
        ridges: Relative to the mean variance of the values of u, from 0. With 0, directions in which u does not vary keep
            the values of ``start``; with infinity it is ``start``, and no b'.
        bias: Whether there is a b'; without, b' is 0 and the means are fitted too.

    Returns:
        w' (D, d) and b' (D) for every ridge, float64.

    Raises:
        ValueError: If there are no pairs.
    """
    if moments.count == 0:
        raise ValueError('no pairs of patches to calibrate from')
    inputs, cross = moments.input_covariance, moments.cross_covariance
    if not bias:
        inputs = inputs + moments.input_mean.outer(moments.input_mean)
        cross = cross + moments.target_mean.outer(moments.input_mean)
    start = start.double()
    # One decomposition serves every ridge, and shows what rounding has left of directions without variance.
    variances, directions = torch.linalg.eigh(inputs)
    missing = (cross - start @ inputs) @ directions
    smallest = len(variances) * torch.finfo(torch.float64).eps * variances[-1]
    solutions = []
    for ridge in ridges:
        if ridge == math.inf:
            solutions.append((start, torch.zeros_like(moments.target_mean)))
            continue
        damped = variances.clamp_min(0) + ridge * variances.mean()
        weight = start + torch.where(damped > smallest, missing / damped, 0.) @ directions.T
        constant = moments.target_mean - weight @ moments.input_mean
        solutions.append((weight, constant if bias else torch.zeros_like(constant)))
    return solutions


@dataclass(frozen=True)
class Calibration:
    """A calibrated kernel and its errors.

    Attributes:
        weight: w', (D, C, h, w), float64.
        bias: What b' adds to b, (D), float64; zeros for an embedding without bias.
        ridge: The ridge.
        error_before: :func:`token_error` of ``w_0`` with the pretrained bias, on the held-out pairs.
        error_after: That of the calibrated kernel.
    """

    weight: Tensor
    bias: Tensor
    ridge: float
    error_before: float
    error_after: float


def calibrate(fit: PairMoments, held_out: PairMoments, start: Tensor, ridges: Sequence[float] = RIDGES,
              bias: bool = True) -> Calibration:
    """Calibrate a kernel, with the ridge that is best on held-out pairs.

    Args:
        fit: Moments of pairs (u, <x, w>): patches and the tokens, without bias, that they should have.
        held_out: Those of other images.
        start: ``w_0``, the pretrained kernel by PI-resize, (D, C, h, w).
        ridges: To choose from, see :func:`solve`.
        bias: Whether the embedding has one.

    Raises:
        ValueError: If one part has no pairs, or its tokens do not vary.
    """
    rows = start.detach().double().flatten(1)
    before = token_error(held_out, rows)
    after, ridge, weight, constant = min(
        ((token_error(held_out, *solution), ridge, *solution)
         for ridge, solution in zip(ridges, solve(fit, rows, ridges, bias))), key=lambda found: found[0])
    return Calibration(weight.view(start.shape), constant, ridge, before, after)


class Calibrator:
    """Calibrates kernels of a layer from a stream of images, in memory that does not grow with their number.

    Args:
        patch_embed: The layer.
        sizes: Native patch sizes of the kernels in pixels: ``patch_embed.own_sizes``.

    Raises:
        ValueError: If the layer has no such kernel to set, or its patches have more than :data:`MAX_INPUTS` values: memory
            grows with the square of that number.
    """

    def __init__(self, patch_embed: MultiScalePatchEmbed, sizes: Sequence[int]) -> None:
        self.patch_embed = patch_embed
        self.moments: dict[int, tuple[PairMoments, PairMoments]] = {}
        for k in sizes:
            inputs = patch_embed.in_channels * patch_embed.geometry.kernel(k)**2
            if k not in patch_embed.own_sizes:
                raise ValueError(f'the layer has no kernel of {k} px to calibrate, its own are of '
                                 f'{", ".join(map(str, patch_embed.own_sizes)) or "none"}')
            if inputs > MAX_INPUTS:
                raise ValueError(f'patches of {k} px have {inputs} values, and at most {MAX_INPUTS} can be calibrated')
            fit, held_out = (PairMoments(inputs, patch_embed.embed_dims, patch_embed.base.weight.device) for _ in range(2))
            self.moments[k] = fit, held_out

    @torch.no_grad()
    def update(self, images: Tensor, resized: Mapping[int, Tensor], held_out: bool = False) -> None:
        """Add images, normalised as the model sees them.

        Args:
            images: (B, C, H, W) at the base resolution.
            resized: The same images for patches of k px, (B, C, h, w), by k. Patch (i, j) of the one is patch (i, j) of the
                other; rows and columns of patches that one of them lacks are left out.
            held_out: Count them to those that the ridge is chosen by and the errors are measured on.
        """
        layer = self.patch_embed
        tokens = self._seen_patches(images, layer.patch_size) @ layer.base.weight.double().flatten(1).T
        for k, small in resized.items():
            patches = self._seen_patches(small, k)
            rows, columns = (min(lengths) for lengths in zip(patches.shape[1:3], tokens.shape[1:3]))
            self.moments[k][held_out].update(patches[:, :rows, :columns], tokens[:, :rows, :columns])

    def _seen_patches(self, images: Tensor, k: int) -> Tensor:
        """What the layer's kernel on patches of ``k`` px sees of each: more than the patch where patches overlap, or with
        context."""
        geometry = self.patch_embed.geometry
        seen, zeros = with_context(images.double(), geometry, (k, k))
        return extract_patches(seen, (geometry.kernel(k), ) * 2, (k, k), zeros)

    def all_reduce(self) -> None:
        """Take the images of all processes of ``torch.distributed`` together; every process has to call it, before
        :meth:`finish`, and finds the same kernels as one process with all images, up to the rounding of float64."""
        for parts in self.moments.values():
            for moments in parts:
                moments.all_reduce()

    @torch.no_grad()
    def finish(self, ridges: Sequence[float] = RIDGES) -> dict[int, Calibration]:
        """Set the layer's kernels; returns what was found, by patch size.

        Raises:
            ValueError: If the images give nothing to calibrate from.
        """
        layer, found = self.patch_embed, dict[int, Calibration]()
        for k, (fit, held_out) in self.moments.items():
            start = layer.resize_kernel(layer.base.weight, (k, k))
            bias = layer.base.bias
            found[k] = calibrate(fit, held_out, start, ridges, bias is not None)
            layer.set_kernel(k, found[k].weight, None if bias is None else bias + found[k].bias)
        return found
