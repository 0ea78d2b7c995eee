"""Tensors computed from parameters, kept from one forward pass of an evaluation to the next."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

_is_compiling = getattr(getattr(torch, 'compiler', None), 'is_compiling', lambda: False)    # PyTorch 2.1 has none


class DerivedTensors:
    """What a module computes from its parameters alone, kept while they do not change.

    It is no part of a state dict, starts empty in copies and pickles, and steps aside where a gradient is wanted and
    while a graph is being compiled.

    Args:
        limit: Most entries kept: inputs of ever new sizes must not fill the memory.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._kept: dict[Hashable, tuple[Any, list[tuple]]] = {}

    def get(self, key: Hashable, parameters: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """``compute()``, or what it returned for the same key and the same values of ``parameters``."""
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if differentiable or _is_compiling():
            return compute()
        if key not in self._kept or not _unchanged(self._kept[key][1], parameters):
            if len(self._kept) >= self.limit:
                self._kept.clear()
            # Ordinary tensors whatever mode the first caller is in: those of inference mode cannot be trained through.
            with torch.inference_mode(False), torch.no_grad():
                self._kept[key] = (compute(), _snapshot(parameters))
        return self._kept[key][0]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple:
        return type(self), (self.limit, )


def _snapshot(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor | tuple]]:
    """The tensors, each with what tells later whether it has changed: a copy on the CPU, elsewhere version and address.

    Comparing contents also sees writes through ``.data``, which do not count as versions; on an accelerator it would
    make the host wait for the device at every forward pass.
    """
    return [(t, t.detach().clone() if t.device.type == 'cpu' else _state(t)) for t in tensors]


def _unchanged(snapshot: list[tuple[Tensor, Tensor | tuple]], tensors: Sequence[Tensor]) -> bool:
    return len(snapshot) == len(tensors) and all(
        t is then and (_equal(t, state) if isinstance(state, Tensor) else _state(t) == state)
        for t, (then, state) in zip(tensors, snapshot))


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)    # a module moves its parameters in place


def _state(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), None if tensor.is_inference() else tensor._version    # inference tensors have no version
