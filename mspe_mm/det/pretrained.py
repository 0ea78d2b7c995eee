"""Pretrained backbones: MAE's files, and those of mmengine."""
from __future__ import annotations

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import InputError


def load_pretrained(backbone: nn.Module, filename: str, prefix: str | None = None) -> None:
    """Load what a pretrained file has for a backbone; what it has not (relative positions) stays as it is.

    Args:
        backbone: The backbone.
        filename: Path or URL: a state dict, or a file that holds one under ``'state_dict'`` (mmengine) or ``'model'``
            (MAE).
        prefix: Only weights whose names begin with ``prefix.``, without it.

    Raises:
        InputError: If nothing in the file is of this backbone, or a tensor has another shape.
    """
    checkpoint = CheckpointLoader.load_checkpoint(str(filename), map_location='cpu', logger='silent')
    for key in ('state_dict', 'model'):
        checkpoint = checkpoint.get(key, checkpoint)
    if prefix:
        start = prefix.rstrip('.') + '.'
        checkpoint = {name[len(start):]: value for name, value in checkpoint.items() if name.startswith(start)}
    own = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    weights = {name: value for name, value in checkpoint.items() if name in own and isinstance(value, Tensor)}
    if not weights:
        raise InputError(f'{filename} has no weights of {type(backbone).__name__}{f" under {prefix!r}" if prefix else ""}: '
                         'give a checkpoint of a plain Vision Transformer (MAE, ViTDet), or its prefix')
    for name, value in weights.items():
        if tuple(value.shape) != own[name]:
            raise InputError(f'{filename} does not fit: {name} is {tuple(value.shape)} there and {own[name]} in the config')
    missing = backbone.load_state_dict(weights, strict=False).missing_keys
    print_log(f'Load {len(weights)} of {len(own)} tensors of the backbone from {filename}; not in it: '
              f'{", ".join(missing) or "none"}', logger='current')
