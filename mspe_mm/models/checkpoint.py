"""Reading checkpoints, and whether they fit."""
from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from .find import find_patch_embed


def read_checkpoint(filename: str, map_location: str | Callable = 'cpu') -> dict:
    """A checkpoint from a path or URL, as mmengine reads it, or from a safetensors file.

    Raises:
        InputError: If it does not exist, cannot be read or holds no weights.
    """
    if '://' not in str(filename) and not Path(filename).is_file():
        raise InputError(f'checkpoint {filename} does not exist')
    try:
        if str(filename).endswith('.safetensors'):
            checkpoint = load_file(filename)
        else:
            checkpoint = CheckpointLoader.load_checkpoint(str(filename), map_location=map_location, logger='silent')
    except (EOFError, OSError, RuntimeError, SafetensorError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'checkpoint {filename} cannot be read, it is truncated or no checkpoint: {reason}') from error
    weights = weights_of(checkpoint) if isinstance(checkpoint, dict) else None
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f'checkpoint {filename} holds no weights: it has neither a state_dict nor tensors')
    return checkpoint


def weights_of(checkpoint: dict) -> dict[str, Tensor]:
    """The state dict of a checkpoint: mmengine's ``'state_dict'``, MAE's ``'model'``, or the checkpoint itself."""
    for key in ('state_dict', 'model'):
        checkpoint = checkpoint.get(key, checkpoint)
    return checkpoint


def named_for(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under the names of ``model``: one of the network that it wraps gets its ``checkpoint_prefix``."""
    prefix = getattr(model, 'checkpoint_prefix', '')
    if any(name.startswith(prefix) for name in state_dict):
        return state_dict
    return {f'{prefix}{name}': value for name, value in state_dict.items()}


def load_weights(model: nn.Module, filename: str) -> dict:
    """Load a checkpoint of the model, or of its stock host model; returns the checkpoint.

    Raises:
        InputError: If it cannot be read or is of another model.
    """
    state_dict, checkpoint = read_weights(model, filename)
    model.load_state_dict(state_dict, strict=False)    # strict but for BatchNorm's counters: check_fits has looked
    return checkpoint


def read_weights(model: nn.Module, filename: str) -> tuple[dict[str, Tensor], dict]:
    """What :func:`load_weights` would load, under the names of ``model``, and the checkpoint."""
    checkpoint = read_checkpoint(filename)
    state_dict = named_for(model, weights_of(checkpoint))
    check_fits(model, state_dict, filename)
    return state_dict, checkpoint


def training_seconds(log_scalars: dict) -> float | None:
    """How long the steps of a training took, by what mmengine's ``message_hub`` has logged; None if it has not."""
    return float(log_scalars['train/time'].data[0].sum()) if 'train/time' in log_scalars else None


def check_fits(model: nn.Module, state_dict: dict[str, Tensor], filename: str) -> None:
    """Raise an InputError that says how if ``state_dict`` is not that of ``model``.

    Added patch kernels may be missing: a stock checkpoint has none, and the layer then makes them.
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
