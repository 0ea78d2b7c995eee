"""Adapters: the tuned kernels alone, in a safetensors file of a few megabytes that is safe to share.

The file holds the parameters of ``MultiScalePatchEmbed.kernels`` and, as metadata, what they were tuned for. An adapter
belongs to one pretrained kernel, which it names by its digest.
"""
from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InputError
from ..version import __version__
from .patch_embed import MultiScalePatchEmbed

DOWNSAMPLING = ('interpolation', 'antialias', 'correlation')
FORMAT = 'mspe_mm.adapter/1'


def find_patch_embed(model: nn.Module) -> MultiScalePatchEmbed:
    """The MSPE layer of a model.

    Raises:
        InputError: If the model has none, or more than one.
    """
    layers = [module for module in model.modules() if isinstance(module, MultiScalePatchEmbed)]
    if len(layers) != 1:
        raise InputError(f'{type(model).__name__} has {len(layers) or "no"} MSPE patch embedding'
                         f'{"s, one is needed" if layers else ": use a config with an MSPE backbone (*_mspe_*.py)"}')
    return layers[0]


def base_digest(patch_embed: MultiScalePatchEmbed) -> str:
    """SHA-256 of the pretrained kernel and bias in float32: which model an adapter belongs to.

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
        tuned_sizes=[int(k) for k in patch_embed.kernels],
        parameterization=patch_embed.parameterization,
        interpolation=patch_embed.interpolation,
        antialias=patch_embed.antialias,
        correlation=patch_embed.correlation)
    return {'format': FORMAT, 'version': __version__, **{key: json.dumps(value) for key, value in entries.items()}}


def save_adapter(patch_embed: MultiScalePatchEmbed, path: str | Path, training_seconds: float | None = None) -> None:
    """Write the layer's kernels, and how long they took to train, to ``path``.

    An older file there survives if this one cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in patch_embed.kernels.state_dict().items()}
    with replacing(path) as temporary:
        metadata = describe(patch_embed)
        if training_seconds is not None:
            metadata['training_seconds'] = json.dumps(training_seconds)
        Path(temporary).write_bytes(save(tensors, metadata))    # by Python: a full disk is an OSError


def load_adapter(patch_embed: MultiScalePatchEmbed, path: str | Path, layer_key: str = 'model.backbone') -> None:
    """Set the layer's kernels from ``path``.

    ``layer_key`` is the key of a config that has the layer's settings, for what the messages advise.

    Raises:
        InputError: If the file is missing, damaged or no adapter, or does not fit the layer; the message says in what.
    """
    tensors, metadata = read_adapter(path)
    own = describe(patch_embed)
    metadata.setdefault('correlation', '0.0')    # what layers had before they had a choice
    metadata.setdefault('base_kernel', own['base_kernel'])    # not said before; the kernels' shapes still have to fit
    for key in ('embed_dims', 'in_channels', 'patch_size', 'base_kernel', 'base_resolution', 'kernel_sizes', 'tuned_sizes',
                'parameterization', *DOWNSAMPLING):
        if metadata.get(key) != own[key]:
            raise InputError(f'{path} does not fit this model: it was tuned for {key}={metadata.get(key)}, and the '
                             f'model has {key}={own[key]}{_remedy(key, metadata.get(key), layer_key)}')
    if metadata.get('base_digest') != own['base_digest']:    # JSON: the digest in quotes
        raise InputError(f'{path} does not fit this checkpoint: it was tuned with the base kernel '
                         f'{metadata.get("base_digest", "?")[1:13]}, and the checkpoint has '
                         f'{own["base_digest"][1:13]}; give the checkpoint that it was tuned from')
    try:
        patch_embed.kernels.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f'{path} does not hold the kernels that its metadata names: {_one_line(error)}') from error


def adapter_layer(patch_embed: MultiScalePatchEmbed, path: str | Path) -> MultiScalePatchEmbed:
    """A second layer on the pretrained kernel of ``patch_embed``, with the kernels of the adapter at ``path``.

    It has the adapter's own kernel sizes and parameterization, whatever those of ``patch_embed`` are.

    Raises:
        InputError: As :func:`load_adapter`.
    """
    _, metadata = read_adapter(path)
    kernel_sizes, tuned_sizes = (json.loads(metadata.get(key, '[]')) for key in ('kernel_sizes', 'tuned_sizes'))
    try:
        layer = patch_embed.sharing_base(kernel_sizes=kernel_sizes, tune_base=patch_embed.patch_size in tuned_sizes,
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
        raise InputError(f'adapter {path} cannot be read, it is damaged or no safetensors file: '
                         f'{_one_line(error)}') from error
    if metadata.get('format') != FORMAT:
        raise InputError(f'{path} is no adapter of this version: its format is {metadata.get("format")}, not {FORMAT}')
    return tensors, metadata


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """A temporary name beside ``path`` that takes its place when the block succeeds and is removed when it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        yield str(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remedy(key: str, value: str | None, layer_key: str) -> str:
    """What to add to a command for the layer to have the adapter's setting, if it is one of the config's."""
    if value is None or key not in ('kernel_sizes', 'parameterization', *DOWNSAMPLING):
        return ''
    if key in DOWNSAMPLING and layer_key == 'model.backbone':    # where the hosts' own backbones keep it
        key = f'downsampling.{key}'
    value = value.strip('"')    # JSON
    return f'; add --cfg-options {layer_key}.{key}=' + (f'"{value}"' if '[' in value else value)


def _remedy(key: str, value: str | None, layer_key: str) -> str:
    """What to add to a command for the layer to have the adapter's setting, if it is one that configs have."""
    if value is None or key not in ('kernel_sizes', 'parameterization', *DOWNSAMPLING):
        return ''
    if key in DOWNSAMPLING and layer_key == 'model.backbone':    # where our own backbones keep it
        key = f'downsampling.{key}'
    value = value.strip('"')    # JSON's
    return f'; add --cfg-options {layer_key}.{key}=' + (f'"{value}"' if key == 'kernel_sizes' else value)


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
