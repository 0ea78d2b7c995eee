"""What a single call embeds by, instead of what the layer would choose itself.

Training draws a kernel for every pass, the teacher embeds by the pretrained kernel alone, and a token budget asks for
another grid. The choice is made outside the model and used deep inside it, below code of the host that knows nothing of it.
"""
from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from .call_scope import CallScope


@dataclass(frozen=True)
class Choice:
    """How a call differs from the layer's own choice.

    Args:
        kernel: Index of the kernel, instead of the nearest resolution's (Eq. 10).
        grid: (rows, columns) of tokens, instead of the base grid.
        pretrained_only: Whether the pretrained kernel embeds every image, as if there were no other.
        images: What is embedded instead of the input: batches (b, C, h, w) of any sizes, each at its own.
        kernels: Indices of the kernels that embed them; None for the nearest resolution's.
    """

    kernel: int | None = None
    grid: tuple[int, int] | None = None
    pretrained_only: bool = False
    images: tuple[Tensor, ...] | None = None
    kernels: tuple[int, ...] | None = None


DEFAULT = Choice()
_choices: CallScope[Mapping[int, Choice]] = CallScope({})


def choice_for(layer: nn.Module) -> Choice:
    """What the current call embeds by in ``layer``."""
    return _choices.value.get(id(layer), DEFAULT)


def choosing(layer: nn.Module, **changes: Any) -> AbstractContextManager[None]:
    """Within the context, calls of this thread to ``layer`` have these settings of :class:`Choice`."""
    return _choices.set({**_choices.value, id(layer): replace(choice_for(layer), **changes)})
