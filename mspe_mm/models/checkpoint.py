"""Reading checkpoints safely, and checking that they fit a model."""
from __future__ import annotations

import argparse
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from ..layers.call_scope import CallScope
from ..layers.patch_embed import MultiScalePatchEmbed
from .find import find_patch_embed

_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_trusting = CallScope(False)
_safe = CallScope(False)    # leaving a nested torch.serialization.safe_globals would remove names of the outer one
_lock = threading.RLock()    # the environment belongs to all threads


class UntrustedCheckpointError(InputError):
    """A checkpoint cannot be read without running code that it names."""


def _statistic(owner: type, name: str) -> Callable:
    """Replaces ``getattr`` in checkpoints: it gives the statistics of mmengine's ``HistoryBuffer``, and nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise UntrustedCheckpointError(f'getattr of {owner} and {name!r}')
    return getattr(HistoryBuffer, name)


def _safe_globals() -> list[Any]:
    """Types in mmengine's checkpoints besides tensors and plain Python: logs, and numbers and arrays of NumPy."""
    core = np.zeros(1).__reduce__()[0].__module__.rpartition('.')[0]    # numpy.core; numpy._core since NumPy 2
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(1).__reduce__()[0]
    found = [(HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'), (_statistic, 'builtins.getattr'),
             (np.ndarray, 'numpy.ndarray'), (np.dtype, 'numpy.dtype'),
             (argparse.Namespace, 'argparse.Namespace')]    # the arguments in files of MAE and DeiT; it only holds values
    for package in {core, 'numpy.core', 'numpy._core'}:    # files of NumPy 1 and 2
        found += [(reconstruct, f'{package}.multiarray._reconstruct'), (scalar, f'{package}.multiarray.scalar')]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdgFDGSU'}
    return found + [(kind, f'{kind.__module__}.{kind.__qualname__}') for kind in dtypes]


@contextmanager
def trusting_checkpoints(trust: bool = True) -> Iterator[None]:
    """Within the context, in this thread, checkpoints may run the code that they name: for files from a trusted source."""
    with _trusting.set(trust):
        yield


@contextmanager
def loading_safely() -> Iterator[None]:
    """Within the context, ``torch.load`` runs no code of a file. Without it, mmengine runs such code after a warning.

    In :func:`trusting_checkpoints` nothing changes.

    Raises:
        UntrustedCheckpointError: If a file has other types than tensors, plain Python and :func:`_safe_globals`.
    """
    if _trusting.value or _safe.value:
        yield
        return
    with _lock, _safe.set(True):
        before = os.environ.get(_FORCE)
        os.environ[_FORCE] = '1'    # PyTorch's own switch; it overrules weights_only=False
        try:
            if _has_safe_globals():
                with torch.serialization.safe_globals(_safe_globals()):
                    yield
            else:
                yield
        finally:
            os.environ.pop(_FORCE)
            if before is not None:
                os.environ[_FORCE] = before


def _has_safe_globals() -> bool:
    return tuple(map(int, re.findall(r'\d+', torch.__version__)[:2])) >= (2, 6)


def read_checkpoint(filename: str | Path, map_location: str | Callable = 'cpu') -> dict:
    """A checkpoint from a path, from a URL as mmengine fetches it, or from a safetensors file; it runs no code.

    Raises:
        UntrustedCheckpointError: If it cannot be read without running code, outside of :func:`trusting_checkpoints`.
        InputError: If it does not exist, cannot be read or holds no weights.
    """
    filename = str(filename)
    if '://' not in filename and not Path(filename).is_file():
        raise InputError(f'checkpoint {filename} {"is a folder" if Path(filename).is_dir() else "does not exist"}')
    try:
        if filename.endswith('.safetensors'):
            checkpoint = load_file(filename)
        elif '://' not in filename:
            with loading_safely():
                checkpoint = torch.load(filename, map_location=map_location, weights_only=not _trusting.value)
        else:
            with loading_safely():
                checkpoint = CheckpointLoader.load_checkpoint(filename, map_location=map_location, logger='silent')
    except Exception as error:    # a damaged pickle can raise any exception
        needed = _needed(error, filename)
        if needed:
            advice = '' if _has_safe_globals() else f' by PyTorch {torch.__version__} (2.6 reads those of mmengine)'
            raise UntrustedCheckpointError(
                f'checkpoint {filename} cannot be read without running code{advice}: it needs {needed}') from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'checkpoint {filename} cannot be read, it is truncated or not a checkpoint: {reason}') from error
    weights = weights_of(checkpoint)
    if not weights or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()):
        raise InputError(f'checkpoint {filename} holds no weights: it has neither a state_dict nor tensors')
    return checkpoint


def _needed(error: Exception, filename: str) -> str | None:
    """The type or feature in a file that safe loading refuses; None if the file is damaged."""
    if isinstance(error, UntrustedCheckpointError):
        return str(error)
    name = re.search(r'GLOBAL ([\w.]+)', str(error))
    if name:
        return name[1]
    if re.search(r'Can only (create|build)|unrecognized function', str(error)):
        return 'objects of other classes'
    if 'Unsupported operand' in str(error) and zipfile.is_zipfile(filename):
        return 'a newer protocol of pickle'
    return None


def weights_of(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict of a checkpoint: mmengine's ``'state_dict'``, MAE's ``'model'``, or the checkpoint itself.

    The prefix ``module.`` of DistributedDataParallel is removed. Empty if ``checkpoint`` is not a checkpoint.
    """
    for key in ('state_dict', 'model'):
        checkpoint = checkpoint.get(key, checkpoint) if isinstance(checkpoint, dict) else {}
    if not isinstance(checkpoint, dict):
        return {}
    if all(str(name).startswith('module.') for name in checkpoint):
        return {name[len('module.'):]: value for name, value in checkpoint.items()}
    return checkpoint


def named_for(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with ``checkpoint_prefix`` of ``model`` added to keys that lack it.

    If keys have the prefix, a model with ``checkpoint_has_more`` leaves out those that do not.
    """
    prefix = getattr(model, 'checkpoint_prefix', '')
    if any(name.startswith(prefix) for name in state_dict):
        if getattr(model, 'checkpoint_has_more', False):
            return {name: value for name, value in state_dict.items() if name.startswith(prefix)}
        return state_dict
    return {f'{prefix}{name}': value for name, value in state_dict.items()}


def load_weights(model: nn.Module, filename: str) -> dict:
    """Load a checkpoint of the model, or of its stock host model; returns the checkpoint.

    Raises:
        InputError: If it cannot be read or is of another model.
    """
    state_dict, checkpoint = read_weights(model, filename)
    model.load_state_dict(state_dict, strict=False)    # check_fits is strict, except for BatchNorm's counters
    return checkpoint


def read_weights(model: nn.Module, filename: str) -> tuple[dict[str, Tensor], dict]:
    """The state dict that :func:`load_weights` would load, under the names of ``model``, and the checkpoint."""
    checkpoint = read_checkpoint(filename)
    state_dict = named_for(model, weights_of(checkpoint))
    check_fits(model, state_dict, filename)
    return state_dict, checkpoint


def training_seconds(log_scalars: dict) -> float | None:
    """Seconds that the steps of a training took, from the scalars that mmengine logged; None if it logged no times."""
    return float(log_scalars['train/time'].data[0].sum()) if 'train/time' in log_scalars else None


def check_fits(model: nn.Module, state_dict: dict[str, Tensor], filename: str) -> None:
    """Raise an InputError that lists the differences if ``state_dict`` does not fit ``model``.

    The added patch kernels may be missing: a stock checkpoint has none, and the layer then initialises them.
    """
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state_dict.items()}
    if any(isinstance(module, MultiScalePatchEmbed) for module in model.modules()):
        layer = find_patch_embed(model)
        (prefix, ) = [name for name, module in model.named_modules() if module is layer.kernels]
        if not any(name.startswith(f'{prefix}.') for name in given):
            expected = {name: shape for name, shape in expected.items() if not name.startswith(f'{prefix}.')}
    missing = [name for name in expected if name not in given and not name.endswith('num_batches_tracked')]
    unexpected = [name for name in given if name not in expected]
    resized = [f'{name} {given[name]} for {expected[name]}' for name in expected
               if name in given and given[name] != expected[name]]
    if missing or unexpected or resized:
        problems = [f'{len(names)} {kind} ({", ".join(names[:2])}{", ..." if len(names) > 2 else ""})'
                    for kind, names in (('missing', missing), ('unexpected', unexpected), ('of another shape', resized))
                    if names]
        raise InputError(f'checkpoint {filename} is not of this model: of {len(expected)} tensors, {"; ".join(problems)}; '
                         'give the config that it was trained with')
