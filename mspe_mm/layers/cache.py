"""Tensors that are computed once and used in many forward passes."""
from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._python_dispatch import _get_current_dispatch_mode

is_compiling = getattr(getattr(torch, 'compiler', None), 'is_compiling', lambda: False)    # PyTorch 2.1 has none
is_dynamo_compiling = getattr(getattr(torch, 'compiler', None), 'is_dynamo_compiling', is_compiling)    # 2.2 has none


def is_transformed() -> bool:
    """Whether the current call is compiled, exported, traced, or inside ``torch.func``.

    Such a call must have no side effects, and no operations that exist in eager mode alone.
    """
    if is_compiling():
        return True
    return torch.jit.is_tracing() or torch._C._functorch.peek_interpreter_stack() is not None


def shared_constant(maxsize: int) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator: the tensor that a pure function returns for its arguments is computed once and shared by all callers.

    The modes of the first caller have no effect on the tensor. Gradient, inference and torch-function modes are switched off
    while it is computed. A trace, ``torch.func`` and the fake tensors of an export cannot be switched off, but belong to one
    thread: there the tensor is computed in a new thread, which takes milliseconds. ``torch.compile`` traces the function
    itself. The function takes hashable arguments by position.

    Args:
        maxsize: Most tensors kept.
    """
    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @lru_cache(maxsize)
        def computed(*args: Hashable) -> Tensor:
            if is_transformed() or _get_current_dispatch_mode() is not None:
                with ThreadPoolExecutor(1) as thread:
                    return thread.submit(function, *args).result()
            with torch._C.DisableTorchFunction(), torch.inference_mode(False), torch.no_grad():
                return function(*args)

        def constant(*args: Hashable) -> Tensor:
            return function(*args) if is_dynamo_compiling() else computed(*args)

        constant.__doc__ = function.__doc__
        vars(constant).update(cache_clear=computed.cache_clear, cache_info=computed.cache_info)
        return constant

    return decorate


class DerivedTensors:
    """Tensors that a module computes from its parameters alone, kept while the parameters do not change.

    They are not part of a state dict, and copies and pickles of the module start empty. If a gradient is needed, or the call
    is traced or transformed, nothing is stored and nothing is reused. Several threads may share an instance.

    Args:
        limit: Largest number of entries.
        max_bytes: Largest memory of all entries in bytes. A larger entry is not kept.
    """

    def __init__(self, limit: int = 16, max_bytes: int = 256 * 2**20) -> None:
        self.limit, self.max_bytes = limit, max_bytes
        self._lock = threading.RLock()
        self._kept: dict[Hashable, Any] = {}
        self._computed_from: list[tuple] = []

    def get(self, key: Hashable, parameters: Sequence[Tensor], compute: Callable[[], Any]) -> Any:
        """``compute()``, or its earlier result for the same key and the same values of ``parameters``.

        ``key`` has to contain everything besides the parameters that the result depends on.
        """
        if is_transformed() or (torch.is_grad_enabled() and any(p.requires_grad for p in parameters)):
            return compute()
        with self._lock:
            if not _unchanged(self._computed_from, parameters):
                self.clear()
            if key in self._kept:
                return self._kept[key]
            # The first caller may be in inference mode, whose tensors autograd would refuse later.
            with torch.inference_mode(False), torch.no_grad():
                value = compute()
            if len(self._kept) >= self.limit or self.nbytes + _nbytes(value) > self.max_bytes:
                self.clear()
            if _nbytes(value) <= self.max_bytes and _is_real(value):
                if not self._kept:
                    self._computed_from = _snapshot(parameters)
                self._kept[key] = value
            return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept, self._computed_from = {}, []

    @property
    def nbytes(self) -> int:
        """Memory of what is kept, in bytes."""
        return sum(_nbytes(value) for value in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def __reduce__(self) -> tuple:
        return type(self), (self.limit, self.max_bytes)


def _nbytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_nbytes, value)) if isinstance(value, Iterable) else 0


def _is_real(value: Any) -> bool:
    """Whether all tensors hold numbers, unlike the fake tensors of a dispatch mode."""
    if isinstance(value, Tensor):
        return type(value) in (Tensor, Parameter)
    return all(map(_is_real, value)) if isinstance(value, Iterable) else True


def _snapshot(tensors: Sequence[Tensor]) -> list[tuple]:
    """The tensors, each with its address and version, and on the CPU with a copy: enough to detect a later change.

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
