"""Inference in mixed precision."""
from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from ..errors import InputError

DTYPES = ('bfloat16', 'float16')


def use_mixed_precision(model: nn.Module, dtype: str = 'bfloat16') -> None:
    """Run the forward pass of a model under autocast, in place; weights stay in float32.

    mmengine's own switch, ``fp16`` of its test loop, gives no choice of the dtype on a GPU.

    Args:
        model: A model on its device.
        dtype: ``'bfloat16'``, with the range of float32, or ``'float16'``, more precise and for GPUs without bfloat16.

    Raises:
        InputError: If the device does not compute in ``dtype``, or the model cannot.
    """
    device = next(model.parameters()).device.type
    if device == 'cpu' and dtype == 'float16':
        raise InputError('--amp float16 needs a GPU: give --amp bfloat16')
    if device == 'cuda' and dtype == 'bfloat16' and not torch.cuda.is_bf16_supported():
        raise InputError(f'{torch.cuda.get_device_name()} does not compute in bfloat16: give --amp float16')
    host = type(model).__name__
    is_detector = hasattr(model, 'roi_head') or hasattr(model, 'bbox_head')
    if is_detector and not hasattr(model, 'mspe_layer') and (device == 'cpu' or dtype == 'bfloat16'):
        raise InputError(f'the heads of {host} cannot run in {dtype}: leave out --amp, or give the config '
                         f"model.type='MSPE{host}', which keeps them in float32")
    model.forward = partial(_forward, model, device, getattr(torch, dtype))    # a deep copy gets its own model


def _forward(model: nn.Module, device: str, dtype: torch.dtype, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(device, dtype):
        return type(model).forward(model, *args, **kwargs)
