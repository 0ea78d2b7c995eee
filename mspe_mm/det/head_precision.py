"""Full precision for the heads of a detector under mixed precision."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..layers.autocast import autocast_dtype
from ..layers.call_scope import CallScope

_features_dtype: CallScope[torch.dtype | None] = CallScope(None)    # the dtype of autocast outside of the heads


class FullPrecisionHeadsMixin:
    """Runs the heads in float32 under autocast in bfloat16, and under any autocast on a CPU.

    mmcv's RoIAlign has no bfloat16 kernel, and mmdet makes anchors and points in the dtype of the scores: bfloat16 rounds
    coordinates near 1000 to multiples of 4 px. Backbone and neck, which take most of the time, stay in low precision.
    float16 on a GPU is left to the host.
    """

    def forward(self, inputs: Tensor | Sequence[Tensor], *args, **kwargs) -> Any:
        device_type = inputs[0].device.type
        dtype = autocast_dtype(device_type)
        if dtype is None or (dtype != torch.bfloat16 and device_type != 'cpu'):
            return super().forward(inputs, *args, **kwargs)
        with _features_dtype.set(dtype), torch.autocast(device_type, enabled=False):
            return super().forward(inputs, *args, **kwargs)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        dtype = _features_dtype.value
        if dtype is None:
            return super().extract_feat(batch_inputs)
        with torch.autocast(batch_inputs.device.type, dtype):
            return tuple(level.float() for level in super().extract_feat(batch_inputs))
