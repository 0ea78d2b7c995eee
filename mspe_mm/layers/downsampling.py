"""The downsampling model: how the images of a patch kernel were downsampled."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor

from ..errors import check_choice, check_names
from .resize import ANTIALIASED, INTERPOLATIONS, check_correlation, refit_image, resize_image

PRIOR_CORRELATION = 0.99
"""Correlation of neighbouring pixels that untuned kernels are resized for: that of photographs."""

PRIOR_CONTEXT = 3
"""Pixels that untuned kernels of converted models see on each side of their patch: those of docs/context.md's figures."""


@dataclass(frozen=True)
class Downsampling:
    """How images were downsampled, and how strongly their neighbouring pixels are correlated.

    Args:
        interpolation: ``'bilinear'``, ``'bicubic'``, ``'area'`` or ``'nearest'``, see :mod:`mspe_mm.layers.resize`.
        antialias: Whether a shrinking filter averages over its whole footprint. It is always False for ``'area'`` and
            ``'nearest'``, which have no such choice.
        correlation: Correlation of neighbouring pixels, from 0 (white noise: PI-resize) to less than 1; photographs are
            near 1. See :func:`~mspe_mm.layers.resize.pi_resize`.

    Raises:
        ValueError: For an unknown interpolation or a correlation out of range.
    """

    interpolation: str = 'bilinear'
    antialias: bool = True
    correlation: float = 0.

    def __post_init__(self) -> None:
        check_choice('interpolation', self.interpolation, INTERPOLATIONS)
        check_correlation(self.correlation)
        object.__setattr__(self, 'antialias', bool(self.antialias) and self.interpolation in ANTIALIASED)
        object.__setattr__(self, 'correlation', float(self.correlation))

    @classmethod
    def of(cls, settings: Downsampling | Mapping | None) -> Downsampling:
        """The downsampling model of ``settings``: an instance, a dict of arguments, or None for the default.

        Raises:
            InputError: For an unknown argument, with the nearest valid name.
            ValueError: As the class.
        """
        if isinstance(settings, Downsampling):
            return settings
        settings = settings or {}
        check_names(settings, DOWNSAMPLING_KEYS, 'downsampling')
        return cls(**settings)

    @property
    def settings(self) -> tuple[str, bool, float]:
        """The arguments in the order that :func:`~mspe_mm.layers.resize.pi_resize` takes them."""
        return self.interpolation, self.antialias, self.correlation

    def resize(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Images (B, C, H, W) resized to ``size`` (height, width) by this model, on their device."""
        return resize_image(images, size, self.interpolation, self.antialias)

    def refit(self, images: Tensor, size: tuple[int, int], base: tuple[int, int]) -> Tensor:
        """Images (B, C, H, W) that came from ``base`` by this model, as they would be at ``size`` (height, width)."""
        return refit_image(images, size, base, *self.settings)


DOWNSAMPLING_KEYS = tuple(field.name for field in fields(Downsampling))
