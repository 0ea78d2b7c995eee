"""The memory format in which convolutions are fast."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def use_channels_last(model: nn.Module) -> None:
    """Run the necks and heads of a model in the channels-last memory format, in place.

    Tokens have this layout in memory anyway, and convolutions in low precision are fastest in it, but backbones return their
    features channels-first. The results are the same up to rounding. mmcv's operations on regions (RoIAlign) read
    channels-first memory without a check, so their inputs are converted back.

    Args:
        model: With a ``backbone`` that returns features (B, C, H, W).
    """
    for name, child in model.named_children():
        if name != 'backbone':
            child.to(memory_format=torch.channels_last)
    model.backbone.register_forward_hook(lambda module, inputs, features: _channels_last(features))
    for module in model.modules():
        if type(module).__module__.startswith('mmcv.ops.'):
            module.register_forward_pre_hook(lambda module, inputs: tuple(
                value.contiguous() if isinstance(value, Tensor) else value for value in inputs))


def _channels_last(features: Any) -> Any:
    if isinstance(features, (list, tuple)):
        return type(features)(_channels_last(feature) for feature in features)
    is_map = isinstance(features, Tensor) and features.dim() == 4
    return features.contiguous(memory_format=torch.channels_last) if is_map else features
