"""Pretrained backbones: MAE's files, and those of mmengine."""
from __future__ import annotations

from mmengine.logging import print_log
from torch import nn

from ..errors import InputError
from ..models.checkpoint import read_checkpoint, weights_of


def load_pretrained(backbone: nn.Module, filename: str, prefix: str | None = None) -> None:
    """Load the weights of a backbone from a pretrained file. Parameters that the file lacks keep their values.

    Args:
        backbone: The backbone.
        filename: Path or URL: a state dict, or a file that holds one under ``'state_dict'`` (mmengine) or ``'model'``
            (MAE).
        prefix: Load only weights whose names begin with ``prefix.``; the prefix is removed.

    Raises:
        InputError: If the file cannot be read, nothing in it is of this backbone, or a tensor has another shape.
    """
    found = weights_of(read_checkpoint(filename))
    start = f'{prefix.rstrip(".")}.' if prefix else ''
    found = {name[len(start):]: value for name, value in found.items() if name.startswith(start)}
    own = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    weights = {name: value for name, value in found.items() if name in own}
    if not weights:
        raise InputError(f'{filename} has no weights of {type(backbone).__name__}{f" under {prefix!r}" if prefix else ""}: '
                         'give a checkpoint of a plain Vision Transformer (MAE, ViTDet), or its prefix')
    for name, value in weights.items():
        if tuple(value.shape) != own[name]:
            raise InputError(f'{filename} does not fit: {name} is {tuple(value.shape)} there and {own[name]} in the config')
    missing = backbone.load_state_dict(weights, strict=False).missing_keys
    print_log(f'Load {len(weights)} of {len(own)} tensors of the backbone from {filename}; not in it: '
              f'{", ".join(missing) or "none"}', logger='current')
