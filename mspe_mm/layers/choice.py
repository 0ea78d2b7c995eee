"""The patch kernel and the token grid of a single call, where a program sets them instead of the layer.

A training pass sets the kernel, the teacher's pass uses the pretrained kernel alone, and a token budget sets the grid. The
program sets them outside of the model, and the layer reads them inside of it: the host's forward pass between the two has no
argument for them.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from .call_scope import CallScope
from .context import Window


@dataclass(frozen=True)
class Choice:
    """The settings of a call. The default sets nothing.

    Args:
        kernel: Index of the kernel in ``kernel_sizes``; None for the kernel of the nearest resolution (Eq. 10).
        grid: (rows, columns) of tokens; None for the base grid.
        pretrained_only: Whether the layer uses the pretrained kernel alone, as if it had no other.
        images: Batches (b, C, h, w) of any sizes to embed instead of the input, each at its own size; None for the input.
        kernels: Index of the kernel for each of ``images``; None for the kernels of the nearest resolutions.
        window: Of which image, and where, the input was cut out; None for an image of its own.
    """

    kernel: int | None = None
    grid: tuple[int, int] | None = None
    pretrained_only: bool = False
    images: tuple[Tensor, ...] | None = None
    kernels: tuple[int, ...] | None = None
    window: Window | None = None


DEFAULT = Choice()
_choices: CallScope[Mapping[int, Choice]] = CallScope({})


def choice_for(layer: nn.Module) -> Choice:
    """The settings of the current call of ``layer``."""
    return _choices.value.get(id(layer), DEFAULT)


@contextmanager
def choosing(layer: nn.Module, **changes: Any) -> Iterator[None]:
    """Within the context, calls of this thread to ``layer`` have these settings of :class:`Choice`."""
    with _choices.set({**_choices.value, id(layer): replace(choice_for(layer), **changes)}):
        yield
