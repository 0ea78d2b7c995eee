"""Digests that identify what a sweep measures.

All rows of a run depend on its config and weights. Rows of some methods depend on one more thing: the tuned kernels, the
adapter of tools/calibrate.py, or the checkpoint of the full fine-tuning baseline. Each of these has a digest of its own, so
rows of all other methods stay valid when it changes. File names are in no digest: the same contents under another name are
the same run. The images of the data set are in no digest either, only the settings of the data set.
"""
from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import patch_embed_name

CONFIG_KEYS = ('model', 'test_dataloader', 'test_evaluator', 'randomness')
"""Keys of a config that can change a metric."""

WITHOUT_EFFECT = dict(model=('tuning', ), test_dataloader=('num_workers', 'persistent_workers'))
"""Settings below :data:`CONFIG_KEYS` that cannot change a metric."""


def run_digests(cfg: Config, model: nn.Module) -> dict[str, str]:
    """SHA-256 of the config and the weights, on which all rows of a run depend.

    Args:
        cfg: The config of the run, with the options of the command line.
        model: The model with its weights loaded, in the precision of the checkpoint.

    Returns:
        ``{part: digest}`` of :data:`CONFIG_KEYS` and of ``'weights'``: all but the added patch kernels.
    """
    kernels = f'{patch_embed_name(model)}.kernels.'
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(kernels)}
    return {**{key: _config_digest(cfg, key) for key in CONFIG_KEYS}, 'weights': tensor_digest(weights)}


def method_digests(layer: MultiScalePatchEmbed, methods: Iterable[str], calibrated: str | Path | None = None,
                   finetuned: Mapping[str, Tensor] | None = None) -> dict[str, str]:
    """SHA-256 of the kernels, adapter or checkpoint on which the rows of single methods depend, if the run has them.

    Args:
        layer: The MSPE layer, with its adapter loaded.
        methods: The methods of the run.
        calibrated: The adapter of the method ``calibrated``.
        finetuned: The state dict of the method ``finetuned``.

    Returns:
        ``{method: digest}``.
    """
    digests = {}
    if layer.is_tuned() or 'mspe' in methods:
        budgets = [[*resolution, *grid] for resolution, grid in sorted(layer.budgets.items())]
        digests['mspe'] = tensor_digest({**layer.kernels.state_dict(),
                                         **({'budgets': torch.tensor(budgets)} if budgets else {})})
    if calibrated is not None:
        digests['calibrated'] = hashlib.sha256(Path(calibrated).read_bytes()).hexdigest()
    if finetuned is not None:
        digests['finetuned'] = tensor_digest(finetuned)
    return digests


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, dtypes, shapes and values of tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        value = value.detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)} '.encode())
        digest.update(value.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _config_digest(cfg: Config, key: str) -> str:
    settings = copy.deepcopy(cfg.get(key))
    for name in WITHOUT_EFFECT.get(key, ()):
        settings.pop(name, None)
    text = json.dumps(settings, sort_keys=True, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()


def _name(value: object) -> str:
    """A class or function in a config by its name, anything else as Python prints it."""
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else repr(value)
