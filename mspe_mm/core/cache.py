"""Tensors computed from parameters, kept from one forward pass of an evaluation to the next."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

is_compiling = getattr(getattr(torch, 'compiler', None), 'is_compiling', lambda: False)    # PyTorch 2.1 has none


class DerivedTensors:
    """What a module computes from its parameters alone, kept while they do not change.

    It is no part of a state dict, starts empty in copies and pickles, and steps aside where a gradient is wanted and
    while a graph is being compiled.

    Args:
        limit: Most entries kept: inputs of ever new sizes must not fill the memory.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._kept: dict[Hashable, Any] = {}
        self._computed_from: list[tuple] = []

    def get(self, key: Hashable, parameters: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """``compute()``, or what it returned for the same key and the same values of ``parameters``."""
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        if differentiable or is_compiling():
            return compute()
        if not _unchanged(self._computed_from, parameters) or (key not in self._kept and len(self._kept) >= self.limit):
            self.clear()
        if not self._kept:
            self._computed_from = _snapshot(parameters)
        if key not in self._kept:
            # Ordinary tensors whatever mode the first caller is in: those of inference mode cannot be trained through.
            with torch.inference_mode(False), torch.no_grad():
                self._kept[key] = compute()
        return self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept, self._computed_from = {}, []

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple:
        return type(self), (self.limit, )


def _snapshot(tensors: Sequence[Tensor]) -> list[tuple]:
    """The tensors, each with what tells later whether it has changed: its address and version, on the CPU a copy as well.

    Comparing contents also sees writes through ``.data``, which do not count as versions; on an accelerator it would
    make the host wait for the device at every forward pass.
    """
    return [(t, _state(t), t.detach().clone() if t.device.type == 'cpu' else None) for t in tensors]


def _unchanged(snapshot: list[tuple], tensors: Sequence[Tensor]) -> bool:
    return len(snapshot) == len(tensors) and all(
        t is then and _state(t) == state and (copy is None or torch.equal(t, copy))
        for t, (then, state, copy) in zip(tensors, snapshot))


def _state(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), tensor.dtype, None if tensor.is_inference() else tensor._version
