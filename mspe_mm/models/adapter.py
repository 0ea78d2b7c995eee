"""Adapters: the tuned kernels alone, in a safetensors file of a few megabytes that is safe to share.

The file holds the parameters of ``MultiScalePatchEmbed.kernels`` and, as metadata, the settings of the layer. An adapter
belongs to one pretrained kernel, which the metadata identify by its digest.
"""
from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import InputError
from ..files import replacing
from ..layers.downsampling import DOWNSAMPLING_KEYS
from ..layers.patch_embed import MultiScalePatchEmbed
from ..version import __version__

FORMAT = 'mspe_mm.adapter/1'
MAX_WEIGHT = 1e6
"""A larger absolute value in a kernel means that tuning diverged or the file is damaged."""

_METADATA: dict[str, Any] = dict(
    base_digest=str, embed_dims=int, in_channels=int, patch_size=int, base_kernel=int, base_resolution=[int],
    kernel_sizes=[int], tuned_sizes=[int], token_grids=[[int]], budgets=[[int]], context=(int, dict), edge=str,
    parameterization=str, interpolation=str, antialias=bool, correlation=float, training_seconds=float)
"""Types of the metadata; a list has elements of the type, a tuple names several types, and a float can be written as an
integer."""


def base_digest(patch_embed: MultiScalePatchEmbed) -> str:
    """SHA-256 of the pretrained kernel and bias in float32: it identifies the model of an adapter.

    A model that was cast to half precision has another digest: load adapters before casting.
    """
    digest = hashlib.sha256()
    for parameter in patch_embed.base.parameters():
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def describe(patch_embed: MultiScalePatchEmbed) -> dict[str, str]:
    """The metadata of the layer's adapter; values are JSON."""
    entries = dict(
        base_digest=base_digest(patch_embed),
        embed_dims=patch_embed.embed_dims,
        in_channels=patch_embed.in_channels,
        patch_size=patch_embed.patch_size,
        base_kernel=patch_embed.geometry.kernel_size,
        base_resolution=patch_embed.base_resolution,
        kernel_sizes=patch_embed.kernel_sizes,
        tuned_sizes=patch_embed.own_sizes,
        token_grids=patch_embed.token_grids,
        budgets=[[*resolution, *grid] for resolution, grid in sorted(patch_embed.budgets.items())],
        context=patch_embed.context,
        edge=patch_embed.edge,
        parameterization=patch_embed.parameterization,
        **asdict(patch_embed.downsampling))
    return {'format': FORMAT, 'version': __version__, **{key: json.dumps(value) for key, value in entries.items()}}


def save_adapter(patch_embed: MultiScalePatchEmbed, path: str | Path, training_seconds: float | None = None) -> None:
    """Write the layer's kernels, and the seconds that they took to train, to ``path``.

    An existing file at ``path`` survives if the new one cannot be written.

    Raises:
        InputError: If the kernels have diverged: :func:`load_adapter` would refuse them.
    """
    check_values(patch_embed.kernels.state_dict(), f'adapter {path} is not written')
    tensors = {name: value.detach().cpu().contiguous() for name, value in patch_embed.kernels.state_dict().items()}
    with replacing(path) as temporary:
        metadata = describe(patch_embed)
        if training_seconds is not None:
            metadata['training_seconds'] = json.dumps(training_seconds)
        Path(temporary).write_bytes(save(tensors, metadata))    # save_file would not raise an OSError on a full disk


class AdapterMismatchError(InputError):
    """An adapter was tuned for another layer.

    Attributes:
        setting: The setting that differs, as in the adapter's metadata.
        value: Its value in the adapter; None if the adapter does not say.
    """

    def __init__(self, message: str, setting: str, value: Any) -> None:
        super().__init__(message)
        self.setting, self.value = setting, value


def load_adapter(patch_embed: MultiScalePatchEmbed, path: str | Path) -> None:
    """Set the layer's kernels from ``path``, and the token grids that were chosen for resolutions (``budgets``).

    Raises:
        AdapterMismatchError: If the adapter was tuned for a layer with other settings.
        InputError: If the file is missing, damaged or no adapter, or belongs to another pretrained kernel.
    """
    tensors, metadata = read_adapter(path)
    own = check_settings(patch_embed, metadata, path)
    if metadata.get('base_digest') != own['base_digest']:    # JSON: the digest in quotes
        raise InputError(f'{path} does not fit this checkpoint: it was tuned with the base kernel '
                         f'{metadata.get("base_digest", "?")[1:13]}, and the checkpoint has '
                         f'{own["base_digest"][1:13]}; give the checkpoint that it was tuned from')
    try:
        patch_embed.kernels.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f'{path} does not hold the kernels that its metadata names: {_one_line(error)}') from error
    patch_embed.budgets = {(height, width): (rows, columns)
                           for height, width, rows, columns in json.loads(metadata.get('budgets', '[]'))}


def check_settings(patch_embed: MultiScalePatchEmbed, metadata: dict[str, str], path: str | Path) -> dict[str, str]:
    """The layer's own metadata, after comparing its settings with those of the adapter at ``path``.

    Raises:
        AdapterMismatchError: If the adapter was tuned for a layer with other settings.
    """
    own = describe(patch_embed)
    # What layers had before they had a choice.
    before = dict(correlation='0.0', context='0', edge='"zeros"', token_grids='[]',
                  base_kernel=own['base_kernel'])    # not said before; the kernels' shapes still have to fit
    metadata = {**before, **metadata}
    for key in ('embed_dims', 'in_channels', 'patch_size', 'base_kernel', 'base_resolution', 'kernel_sizes', 'tuned_sizes',
                'context', 'edge', 'token_grids', 'parameterization', *DOWNSAMPLING_KEYS):
        if metadata.get(key) != own[key]:
            remedy = '; an earlier version tuned it: tune it anew' if key == 'edge' else ''
            raise AdapterMismatchError(f'{path} does not fit this model: it was tuned for {key}={metadata.get(key)}, and '
                                       f'the model has {key}={own[key]}{remedy}', key, json.loads(metadata.get(key, 'null')))
    return own


def adapter_layer(patch_embed: MultiScalePatchEmbed, path: str | Path) -> MultiScalePatchEmbed:
    """A second layer on the pretrained kernel of ``patch_embed``, with the kernels of the adapter at ``path``.

    It has the adapter's own kernel sizes, context, token grids and parameterization, whatever those of ``patch_embed`` are.

    Raises:
        InputError: As :func:`load_adapter`.
    """
    _, metadata = read_adapter(path)
    kernel_sizes, tuned_sizes = (json.loads(metadata.get(key, '[]')) for key in ('kernel_sizes', 'tuned_sizes'))
    try:
        layer = patch_embed.sharing_base(kernel_sizes=kernel_sizes, tune_base=patch_embed.patch_size in tuned_sizes,
                                         context=json.loads(metadata.get('context', '0')),
                                         token_grids=json.loads(metadata.get('token_grids', '[]')),
                                         parameterization=json.loads(metadata.get('parameterization', 'null')))
    except ValueError as error:
        raise InputError(f'{path} does not fit this model: {error}') from error
    load_adapter(layer, path)
    return layer


def read_adapter(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of an adapter file.

    Raises:
        InputError: If the file is missing, damaged or no adapter.
    """
    if not Path(path).is_file():
        raise InputError(f'adapter {path} does not exist')
    try:
        with safe_open(str(path), framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f'adapter {path} cannot be read, it is damaged or not a safetensors file: '
                         f'{_one_line(error)}') from error
    if metadata.get('format') != FORMAT:
        raise InputError(f'{path} is not an adapter of this version: its format is {metadata.get("format")}, not {FORMAT}')
    _check_metadata(path, metadata, tensors)
    check_values(tensors, f'adapter {path} is damaged')
    return tensors, metadata


def check_values(tensors: dict[str, Tensor], problem: str) -> None:
    """Refuse kernels that are NaN, infinite, above :data:`MAX_WEIGHT`, or not real floating-point numbers.

    Args:
        tensors: By name.
        problem: Beginning of the message.

    Raises:
        InputError: Naming the tensor.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f'{problem}: its {name} is of type {tensor.dtype}, and kernels are floating-point numbers')
        if not tensor.isfinite().all():
            raise InputError(f'{problem}: its {name} has values that are not finite')
        if tensor.numel() and tensor.abs().max() > MAX_WEIGHT:
            raise InputError(f'{problem}: its {name} has values above {MAX_WEIGHT:g}')


def _check_metadata(path: str | Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> None:
    values = {}
    for key, kind in _METADATA.items():
        if key not in metadata:
            continue    # an older version did not write it; load_adapter compares the settings that are required
        try:
            values[key] = json.loads(metadata[key])
        except (ValueError, RecursionError):
            values[key] = None
        if not _is(values[key], kind):
            raise InputError(f'adapter {path} is damaged: the {key} of its metadata is {metadata[key][:40]}')
    if any(len(entry) != 4 or min(entry) < 1 for entry in values.get('budgets', [])):
        raise InputError(f'adapter {path} is damaged: the budgets of its metadata are {metadata["budgets"][:40]}')
    held = {name.partition('.')[0] for name in tensors}
    held -= {name for name in held if 'g' in name}    # of other token grids: load_adapter compares them with the layer's
    sizes, tuned = ({*map(str, values.get(key, held))} for key in ('kernel_sizes', 'tuned_sizes'))
    if held != tuned or not sizes - tuned <= {str(values.get('patch_size'))}:
        raise InputError(f'{path} does not hold the kernels that its metadata names: it holds {", ".join(sorted(held))}, '
                         f'and they name {", ".join(sorted(sizes | tuned))}')


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, tuple):
        return type(value) in kind
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is(item, kind[0]) for item in value)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind    # bool is an int


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
