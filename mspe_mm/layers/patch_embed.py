"""The MSPE layer: a patch embedding of several patch kernels, each resized to fit the image."""
from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, check_choice
from .cache import DerivedTensors
from .choice import choice_for, choosing
from .context import Window, with_context
from .downsampling import Downsampling
from .geometry import PatchGeometry
from .host_layout import HostLayout
from .resize import pi_resize
from .resolution import FITS, KERNEL_POLICIES, choose_kernel, default_kernel_sizes, fit_image, fit_kernel
from .token_grids import check_own_grids, grid_pairs, kernel_name, native_size, nearest_grid

PARAMETERIZATIONS = ('native', 'residual', 'relative')


class PatchKernel(nn.Module):
    """The weight (D, C, size, size) and the bias (D) of one patch kernel, zero until set."""

    def __init__(self, in_channels: int, embed_dims: int, size: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(embed_dims, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(embed_dims)) if bias else None


class MultiScalePatchEmbed(nn.Module):
    """Multi-scale patch embedding (MSPE, NeurIPS 2024).

    The pretrained kernel of ``patch_size`` pixels keeps the host's parameter name and never changes. ``kernels`` holds one
    kernel for each other native size: the only weights that tuning trains (theta). An image is embedded by the kernel whose
    native resolution is nearest (Eq. 10), resized by PI-resize (Eq. 6) to the patch size that keeps the token grid. At the
    base resolution the output is that of the stock convolution, bit for bit.

    The patch size is rounded up to whole pixels, and images of other sizes than (k_h rows, k_w columns) px are first brought
    to the next larger such size (:func:`~mspe_mm.layers.resize.refit_image`), on their device and by less than a pixel a
    patch. So every image has the base grid, and nothing of it is lost.

    A state dict without ``kernels`` (a stock checkpoint) loads with ``strict=True``. The kernels are then computed from the
    pretrained one, so that an untrained layer is FlexiViT at the native resolutions, and with ``'residual'`` at every one.

    Patches overlap where ``base_kernel`` is larger than ``patch_size``. Kernels are named by their patch size, the stride of
    the convolution; :mod:`~mspe_mm.layers.geometry` says how far a kernel reaches beyond its patch. With ``context``,
    kernels for patches smaller than ``patch_size`` also see pixels around the patch, and the image's reflection beyond its
    edge, see :mod:`~mspe_mm.layers.context`.

    In eval mode several threads may call one layer: the module stores nothing of a call.

    A model that was traced or exported (``torch.jit.trace``, ``torch.export``, ONNX) is for one resolution: kernel, stride
    and padding are constants in it. An exported program refuses other sizes. A trace does not check them: the caller has to.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width D of the tokens.
        patch_size: Patch size at the base resolution, in pixels.
        grid_size: Token grid (rows, columns) at the base resolution, or one number for both.
        kernel_sizes: Native patch sizes of the kernels in pixels, ascending; ``patch_size`` is one of them. By default
            quarters of ``patch_size``, see :func:`~mspe_mm.layers.resolution.default_kernel_sizes`.
        base_kernel: Extent of the pretrained kernel in pixels, if larger than a patch: odd, with a padding of
            ``base_kernel // 2``, as in PVT v2 and SegFormer (7 px on 4 px patches).
        context: Pixels that kernels for patches smaller than ``patch_size`` see on each side of the patch, in pixels of the
            image that is embedded. One number, or a mapping {kernel size: pixels}; patches of other sizes have the context
            of the nearest of these. The base resolution has none.
        token_grids: Other grids, each one number or (rows, columns), that have kernels of their own for every one of
            ``kernel_sizes`` whose native resolution there is at most the base resolution. Grids without take the kernels of
            the base grid. :meth:`force_grid` or :attr:`budgets` put a grid on an image.
        bias: Whether the kernels have a bias.
        kernel_policy: ``'fixed'``, ``'isotropic'`` or ``'constant'``, see :func:`~mspe_mm.layers.resolution.fit_kernel`.
        fit: ``'up'`` as above; with ``'isotropic'``, the base grid along the side that is short for it. ``'nearest'`` brings
            images to the nearest such size: by half a pixel a patch at most, and down as often as up, which loses detail.
            ``'floor'`` is the paper's formula: the patch size is rounded down and images keep their size. Those of other
            sizes than (k_h rows, k_w columns) px may then have more tokens; :meth:`token_grid` gives the number.
        parameterization: How kernel i is stored. ``'native'`` (the paper's): the kernel itself, of k_i px. ``'residual'``: a
            correction of k_i px, which is resized and added to the resized pretrained kernel. Resizing by way of 4 px
            discards detail that a direct 16 -> 6 resize keeps. ``'relative'``: the same correction in units of the root
            mean square of the pretrained kernel, so that one learning rate suits models with weights of any scale.
        tune_base: Also give the base size a kernel that can be tuned. The base resolution is then no longer exact.
        downsampling: How the images lose their resolution: a :class:`~mspe_mm.layers.downsampling.Downsampling` or a dict of
            its arguments.
        norm: A layer applied to the tokens, as in the host; not tuned.
        host: Names and axes taken over from the host.

    Attributes:
        budgets: The grid (rows, columns) of images of a resolution (height, width) in pixels, where it is not the base grid.
            Images of other resolutions have that of the nearest of these and the base resolution.

    Raises:
        ValueError: For settings that contradict each other; the message names them.
    """

    _version = 2    # of state dicts; 1: zeros beyond the image's edge

    def __init__(self,
                 in_channels: int = 3,
                 embed_dims: int = 768,
                 patch_size: int = 16,
                 grid_size: int | tuple[int, int] = 14,
                 kernel_sizes: Sequence[int] | None = None,
                 *,
                 base_kernel: int | None = None,
                 context: int | Mapping[int, int] = 0,
                 token_grids: Sequence[int | tuple[int, int]] = (),
                 bias: bool = True,
                 kernel_policy: str = 'fixed',
                 fit: str = 'up',
                 parameterization: str = 'residual',
                 tune_base: bool = False,
                 downsampling: Downsampling | Mapping | None = None,
                 norm: nn.Module | None = None,
                 host: HostLayout | None = None) -> None:
        super().__init__()
        self.in_channels, self.embed_dims, self.patch_size = in_channels, embed_dims, patch_size
        self.grid_size = cast('tuple[int, int]', (grid_size, grid_size) if isinstance(grid_size, int) else tuple(grid_size))
        if kernel_sizes is None:
            kernel_sizes = default_kernel_sizes(patch_size) if isinstance(patch_size, int) else (patch_size, )
        self.kernel_sizes = tuple(kernel_sizes) if isinstance(kernel_sizes, Sequence) else (kernel_sizes, )
        self.kernel_policy, self.fit, self.parameterization = kernel_policy, fit, parameterization
        self.downsampling, self.host = Downsampling.of(downsampling), host or HostLayout()
        self._check_settings()
        self.token_grids = tuple(grid_pairs(token_grids))
        check_own_grids(self.token_grids, self.grid_size, kernel_policy)
        self.budgets: dict[tuple[int, int], tuple[int, int]] = {}
        self.geometry = PatchGeometry(patch_size, base_kernel or patch_size, cast(Any, context))
        if self.geometry.overlaps and self.host.padding != 'corner':
            raise ValueError(f"overlapping patches are embedded with padding='corner', got {self.host.padding!r}")

        before, _ = self.geometry.reach(patch_size)
        self.adopt(nn.Conv2d(
            in_channels, embed_dims, self.geometry.kernel_size, stride=patch_size, padding=before, bias=bias))
        names = [kernel_name(k) for k in self.kernel_sizes if k != patch_size or tune_base]
        names += [kernel_name(k, grid) for grid in self.token_grids for k in self.kernel_sizes
                  if all(k * tokens <= length for tokens, length in zip(grid, self.base_resolution))]
        self.kernels = nn.ModuleDict({
            name: PatchKernel(in_channels, embed_dims, self.geometry.kernel(native_size(name)), bias) for name in names})
        self.norm = norm
        self._cache = DerivedTensors()
        self.reset_kernels()

    def _check_settings(self) -> None:
        for name, values in (('in_channels', [self.in_channels]), ('embed_dims', [self.embed_dims]),
                             ('patch_size', [self.patch_size]), ('grid_size', self.grid_size),
                             ('kernel_sizes', self.kernel_sizes)):
            if not values or not all(isinstance(value, int) and value > 0 for value in values):
                raise ValueError(f'{name} must be positive whole numbers, got {getattr(self, name)}')
        if list(self.kernel_sizes) != sorted(set(self.kernel_sizes)):
            raise ValueError(f'kernel_sizes must be ascending and without repeats, got {self.kernel_sizes}')
        if self.patch_size not in self.kernel_sizes:
            raise ValueError(f'kernel_sizes must include the patch size {self.patch_size}, whose kernel is the pretrained '
                             f'one, got {self.kernel_sizes}')
        if len(self.grid_size) != 2:
            raise ValueError(f'grid_size must be one or two numbers of tokens, got {self.grid_size}')
        check_choice('kernel_policy', self.kernel_policy, KERNEL_POLICIES)
        check_choice('fit', self.fit, FITS)
        check_choice('parameterization', self.parameterization, PARAMETERIZATIONS)

    def adopt(self, conv: nn.Conv2d) -> None:
        """Make ``conv`` the pretrained patch embedding. The kernels stay as they are."""
        self.add_module(self.host.proj_name, conv)

    @property
    def base(self) -> nn.Conv2d:
        """The pretrained patch embedding."""
        return getattr(self, self.host.proj_name)

    @property
    def base_resolution(self) -> tuple[int, int]:
        """(height, width) in pixels at which the layer is the stock one."""
        return self.stock_size(self.grid_size)

    def stock_size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels of images that the stock patches cut into ``grid`` (rows, columns)."""
        return self.patch_size * grid[0], self.patch_size * grid[1]

    @property
    def context(self) -> int | dict[int, int]:
        """Pixels of context: one number, or {kernel size: pixels}."""
        context = self.geometry.context
        return context if isinstance(context, int) else dict(context)

    @property
    def edge(self) -> str:
        """What kernels for small patches see beyond the image's edge: its ``'reflection'``, or the host's ``'zeros'``."""
        return 'reflection' if self.context and not self.geometry.overlaps else 'zeros'

    @torch.no_grad()
    def reset_kernels(self) -> None:
        """Set the kernels from the pretrained one: its PI-resize (``'native'``) or no correction (the others)."""
        for name, value in self._initial_kernels(self.base.weight, self.base.bias).items():
            self.kernels.get_parameter(name).copy_(value)

    def _initial_kernels(self, weight: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
        """Initial kernels for a pretrained ``weight`` and ``bias``, under their names in ``self.kernels``."""
        kernels = {}
        for name in self.kernels:
            k = native_size(name)
            resized = self.resize_kernel(weight, (k, k))
            native = self.parameterization == 'native'
            kernels[f'{name}.weight'] = resized if native else torch.zeros_like(resized)
            if bias is not None:
                kernels[f'{name}.bias'] = bias if native else torch.zeros_like(bias)
        # A kernel that needs no resizing, and every bias, would be the pretrained tensor itself: kernels own their memory.
        return {name: value.clone() for name, value in kernels.items()}

    def is_tuned(self) -> bool:
        """Whether any kernel differs from its initial value."""
        with torch.no_grad():
            initial = self._initial_kernels(self.base.weight, self.base.bias)
        # To the rounding of the dtype: a half-precision checkpoint holds rounded kernels.
        return any(not torch.allclose(self.kernels.get_parameter(name), value, rtol=8 * torch.finfo(value.dtype).eps)
                   for name, value in initial.items())

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, *args: Any) -> None:
        proj = f'{prefix}{self.host.proj_name}.' if self.host.proj_name else prefix
        weight = state_dict.get(f'{proj}weight')
        stock = not any(key.startswith(f'{prefix}kernels.') for key in state_dict)
        if not stock and self.edge != 'zeros' and local_metadata.get('version') == 1:
            raise InputError('the patch kernels of this checkpoint were tuned by an earlier version of mspe_mm, with zeros '
                             'beyond the edge of the image, which this version continues: tune them anew, from the '
                             'checkpoint that they were tuned from')
        if stock and weight is not None and weight.shape == self.base.weight.shape:
            kernels = self._initial_kernels(weight, state_dict.get(f'{proj}bias'))
            state_dict.update({f'{prefix}kernels.{name}': value for name, value in kernels.items()})
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def resize_kernel(self, weight: Tensor, size: tuple[int, int], native: int | None = None) -> Tensor:
        """Kernels for patches of ``size`` (height, width), under the layer's downsampling model and correlation of pixels.

        ``native`` is the patch size that ``weight`` is for, by default the pretrained kernel's. Without overlap and context,
        kernels are as large as their patches, and it is not needed.
        """
        model, geometry, native = self.downsampling.settings, self.geometry, native or self.patch_size
        if not geometry.overlaps and not any(map(geometry.context_at, (native, *size))):
            return pi_resize(weight, size, *model)
        return geometry.resize(weight, size, (native, native), *model)

    def kernel_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels of the patches (not of what overlaps) of an image of ``image_size`` (height, width)."""
        return fit_kernel(image_size, self.grid_for(image_size), self.patch_size, self.kernel_policy, self.fit)

    def fitted_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels that an image of ``image_size`` (height, width) is brought to before it is embedded."""
        if self.fit == 'floor':
            return image_size
        return fit_image(image_size, self.kernel_size(image_size), self.grid_for(image_size), self.kernel_policy)

    def token_grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the tokens of an image of ``image_size`` (height, width)."""
        rest = 0 if self.host.padding is None else 1
        sizes = zip(self.fitted_size(image_size), self.kernel_size(image_size))
        rows, columns = ((length - rest) // k + rest for length, k in sizes)
        return rows, columns

    def kernel_index(self, image_size: tuple[int, int]) -> int:
        """Which of ``kernel_sizes`` embeds an image of ``image_size`` (height, width), by Eq. 10."""
        if self.kernel_policy == 'constant':
            return self.kernel_sizes.index(self.patch_size)
        grid = self.grid_for(image_size)
        if self.kernel_policy == 'isotropic':
            # Square patches on a non-square image: its resolution, seen from the grid, is that of its patches.
            patch = self.kernel_size(image_size)
            image_size = (patch[0] * grid[0], patch[1] * grid[1])
        return choose_kernel(image_size, grid, self.kernel_sizes)

    def grid_for(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The grid (rows, columns) that is put on an image of ``image_size`` (height, width).

        It is that of :meth:`force_grid`, or else that of :attr:`budgets`, or else the base grid.
        """
        forced = choice_for(self).grid
        if forced or not self.budgets:
            return forced or self.grid_size
        return nearest_grid(image_size, {**self.budgets, self.base_resolution: self.grid_size})

    @property
    def own_sizes(self) -> list[int]:
        """Native patch sizes in pixels of the kernels that tuning trains on the base grid."""
        return [k for k in self.kernel_sizes if kernel_name(k) in self.kernels]

    def own_kernels(self) -> dict[tuple[int, int], list[int]]:
        """Indices of ``kernel_sizes`` of the kernels that tuning trains, by token grid; grids without one are left out."""
        found = {grid: [index for index in range(len(self.kernel_sizes)) if self.name_of(index, grid) in self.kernels]
                 for grid in (self.grid_size, *self.token_grids)}
        return {grid: indices for grid, indices in found.items() if indices}

    def name_of(self, index: int, grid: tuple[int, int]) -> str:
        """The name of kernel ``index`` on a grid; ``kernels`` may have none of that name."""
        return kernel_name(self.kernel_sizes[index], grid if grid in self.token_grids else None)

    def force_kernel(self, index: int) -> AbstractContextManager[None]:
        """Within the context, calls of this thread are embedded by kernel ``index`` of ``kernel_sizes`` (not by Eq. 10)."""
        return choosing(self, kernel=index)

    def force_grid(self, grid: tuple[int, int] | None) -> AbstractContextManager[None]:
        """Within the context, calls of this thread have ``grid`` (rows, columns) instead of the base grid.

        None changes nothing. ``grid_size`` stays the base grid: that of the host's position table.
        """
        return choosing(self, grid=None if grid is None else tuple(grid))

    def pretrained_only(self) -> AbstractContextManager[None]:
        """Within the context, inputs of this thread's calls are embedded by the pretrained kernel, resized to fit."""
        return choosing(self, pretrained_only=True, kernel=None, images=None, kernels=None)

    def window_of(self, image: Tensor, top: int, left: int) -> AbstractContextManager[None]:
        """Within the context, the input of this thread's calls is a window of ``image`` (B, C, H, W).

        Row ``top`` and column ``left`` of the image are the window's first. Kernels with context see the image around the
        window, and not the window's reflection. Windows that are not whole patches are resized or padded like an image,
        and see their own reflection. Patches that overlap at the base resolution see zeros, as they do in the host.
        """
        return choosing(self, window=Window(image, top, left))

    def embedding_each(self, images: Sequence[Tensor],
                       kernels: Sequence[int] | None = None) -> AbstractContextManager[None]:
        """Within the context, calls of this thread embed ``images`` instead of their input, each at its own size.

        So images of different sizes share one pass of an encoder. The input of the call stands for their batch, see
        :meth:`stand_in`.

        Args:
            images: Batches (b, C, h, w).
            kernels: The index of ``kernel_sizes`` for each batch; by default the kernel of the nearest resolution (Eq. 10).
        """
        return choosing(self, images=tuple(images), kernels=None if kernels is None else tuple(kernels))

    def stand_in(self, images: Sequence[Tensor]) -> Tensor:
        """An input (B, C, H, W) at the base resolution for :meth:`embedding_each`; it takes no memory."""
        return images[0].new_zeros(()).expand(sum(map(len, images)), self.in_channels, *self.base_resolution)

    def _embed_each(self, images: tuple[Tensor, ...],
                    kernels: tuple[int, ...] | None) -> tuple[Tensor, tuple[int, int]] | Tensor:
        """The tokens of batches of different sizes, in their order."""
        alike: dict[tuple, list[int]] = {}    # of one size and one kernel
        for index, batch in enumerate(images):
            alike.setdefault((tuple(batch.shape[1:]), None if kernels is None else kernels[index]), []).append(index)
        tokens: dict[int, Tensor] = {}
        grids = set()
        for (_, kernel), indices in alike.items():
            with choosing(self, images=None, kernels=None, window=None, kernel=kernel):
                out = self(torch.cat([images[index] for index in indices]))
            found, grid = out if self.host.with_grid else (out, None)
            grids.add(grid or tuple(found.shape[1:]))
            tokens.update(zip(indices, found.split([len(images[index]) for index in indices])))
        if len(grids) > 1:
            raise InputError(f'images of different sizes share a pass on one token grid, and these have '
                             f'{", ".join(map(str, sorted(grids)))}: take kernel_policy=\'fixed\'')
        stacked = torch.cat([tokens[index] for index in range(len(images))])
        return (stacked, grids.pop()) if self.host.with_grid else stacked

    def sharing_base(self, **changes: Any) -> MultiScalePatchEmbed:
        """A layer on the same pretrained kernel and norm, with this one's settings but for ``changes``, untrained."""
        settings = dict(
            kernel_sizes=self.kernel_sizes, kernel_policy=self.kernel_policy, fit=self.fit,
            parameterization=self.parameterization, context=self.context, token_grids=self.token_grids,
            tune_base=str(self.patch_size) in self.kernels, downsampling=self.downsampling)
        layer = type(self)(
            self.in_channels, self.embed_dims, self.patch_size, self.grid_size, base_kernel=self.geometry.kernel_size,
            bias=self.base.bias is not None, norm=self.norm, host=self.host, **{**settings, **changes})
        layer.adopt(self.base)
        layer.kernels.to(self.base.weight)
        layer.reset_kernels()
        return layer.train(self.training)

    def single_kernel(self, kernel_policy: str, correlation: float = 0.,
                      context: int | Mapping[int, int] = 0) -> MultiScalePatchEmbed:
        """A layer of the pretrained kernel alone, shared with this one: the untrained baselines.

        ``'constant'`` gives the stock patch embedding, ``'fixed'`` and ``'isotropic'`` give FlexiViT's, and with
        ``correlation`` and ``context`` the prior.
        """
        return self.sharing_base(kernel_sizes=(self.patch_size, ), tune_base=False, kernel_policy=kernel_policy,
                                 context=context, token_grids=(),
                                 downsampling=replace(self.downsampling, correlation=correlation))

    def _own_kernel(self, name: str) -> PatchKernel:
        return cast(PatchKernel, self.kernels[name])

    @torch.no_grad()
    def set_kernel(self, size: int, weight: Tensor, bias: Tensor | None) -> None:
        """Make ``weight`` and ``bias`` (D) what :meth:`sized_kernel` gives for the kernel of ``size`` px at its own size."""
        own, base = self._own_kernel(str(size)), self.base
        if self.parameterization != 'native':
            unit = self._unit()
            weight = (weight - self.resize_kernel(base.weight, (size, size))) / unit
            bias = None if bias is None or base.bias is None else (bias - base.bias) / unit
        own.weight.copy_(weight)
        if own.bias is not None and bias is not None:
            own.bias.copy_(bias)

    def sized_kernel(self, size: tuple[int, int], index: int,
                     grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias (D) of kernel ``index`` of ``kernel_sizes``, resized to patches of ``size`` (height, width).

        It is the kernel for images on ``grid``, by default the forced or the base grid. The weight is (D, C, *size), or
        larger where patches overlap and with context.
        """
        base, name = self.base, self.name_of(index, grid or choice_for(self).grid or self.grid_size)
        if name not in self.kernels or choice_for(self).pretrained_only:
            return self.resize_kernel(base.weight, size), base.bias
        own = self._own_kernel(name)
        weight = self.resize_kernel(own.weight, size, self.kernel_sizes[index])
        if self.parameterization == 'native':
            return weight, own.bias
        unit = self._unit()
        bias = None if base.bias is None or own.bias is None else base.bias + unit * own.bias
        return self.resize_kernel(base.weight, size) + unit * weight, bias

    def _unit(self) -> Tensor | float:
        """The unit of the corrections that ``kernels`` holds."""
        if self.parameterization == 'residual':
            return 1.
        weight = self.base.weight.detach()
        return weight.to(torch.promote_types(weight.dtype, torch.float32)).square().mean().sqrt().to(weight)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]] | Tensor:
        """Embed a batch of images.

        Args:
            x: (B, C, H, W), any H and W from 1.

        Returns:
            tokens (B, L, D) and their grid (rows, columns), L = rows * columns. Other ``layout``s: (B, rows, columns, D) or
            (B, D, rows, columns). Without ``with_grid``: the tokens alone.

        Raises:
            InputError: If the tokens are not on the base grid and ``strict_grid`` asks for it.
        """
        choice, given = choice_for(self), x
        if choice.images is not None:
            return self._embed_each(tuple(images.to(x.dtype) for images in choice.images), choice.kernels)
        image_size = _image_size(x)
        fitted, size, forced = self.fitted_size(image_size), self.kernel_size(image_size), choice.kernel
        if fitted != image_size:
            height, width = (round(length * self.patch_size / k) for length, k in zip(fitted, size))
            x = self.downsampling.refit(x, fitted, (height, width))
        index = self.kernel_index(image_size) if forced is None else forced
        weight, bias = self._cached_kernel(size, index, self.grid_for(image_size))
        reach = tuple(self.geometry.reach(k) for k in size)
        x = self.host.pad(x, size, reach)
        x, zeros = with_context(x, self.geometry, size, choice.window if x is given else None)
        x = F.conv2d(x, weight, bias, stride=size, padding=zeros)
        grid = _image_size(x)
        if self.host.strict_grid and grid != self.grid_size:
            rows, columns = self.grid_size
            raise InputError(f'an image of {image_size[0]} x {image_size[1]} px has {grid[0]} x {grid[1]} tokens, and the '
                             f'model takes {rows} x {columns} only: resize images to a multiple of {rows} x {columns} px')
        x = self.host.arrange(x)
        if self.norm is not None:
            x = self.norm(x)
        return (x, grid) if self.host.with_grid else x

    def _cached_kernel(self, size: tuple[int, int], index: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        """``sized_kernel``, kept between the images of an evaluation."""
        if self.training or size == self.base.stride:
            return self.sized_kernel(size, index, grid)
        # By attribute: parameters() of a DataParallel replica are none.
        own = cast('list[PatchKernel]', [self.base, *self.kernels.values()])
        tensors = [tensor for part in own for tensor in (part.weight, part.bias) if tensor is not None]
        settings = self.downsampling, self.parameterization, choice_for(self).pretrained_only
        return self._cache.get((size, self.name_of(index, grid), settings), tensors,
                               lambda: self.sized_kernel(size, index, grid))

    def train(self, mode: bool = True) -> MultiScalePatchEmbed:
        self._cache.clear()
        return super().train(mode)

    def extra_repr(self) -> str:
        return (f'grid_size={self.grid_size}, kernel_sizes={self.kernel_sizes}, context={self.context}, '
                f'token_grids={self.token_grids}, kernel_policy={self.kernel_policy!r}, fit={self.fit!r}, '
                f'parameterization={self.parameterization!r}, {self.downsampling}, {self.host}')


def _image_size(x: Tensor) -> tuple[int, int]:
    """(height, width) of (B, C, H, W); plain numbers also while tracing or compiling, which have sizes of their own types.

    Kernel, stride and padding depend on the size. A program of symbolic sizes has nothing to share between sizes, and to
    make one takes PyTorch minutes.
    """
    height, width = x.shape[-2:]
    return operator.index(height), operator.index(width)
