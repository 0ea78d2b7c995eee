"""What loss scaling does to a tuning whose passes are differentiated one by one (:mod:`~mspe_mm.tuning.early_backward`).

The same steps are taken in float32 and in mixed precision with PyTorch's ``GradScaler``. A step that overflows is skipped by
the scaler, counted, and taken again, so that all candidates take the same steps.
"""
from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .ratios import Settings
from .trainees import setr_trainee
from .training import total

TOLERANCE = 0.02
"""Largest difference of kernels tuned in float16 from those tuned in float32, as a part of what tuning changed."""

SCALES = (2.**16, 2.**40)
"""Initial loss scales: that of ``GradScaler``, and one by which float16 gradients overflow, so that steps are skipped."""


def compare_loss_scales(settings: Settings, size: str, base: int, steps: int) -> list[dict]:
    """Tune a SETR with random labels in float32, in bfloat16, and in float16 from each of :data:`SCALES`.

    Args:
        settings: Device and batch size; its dtype is not used.
        size: Size of the ViT.
        base: Base resolution in pixels.
        steps: Steps of each tuning, of one pass for each kernel.

    Returns:
        A row for each tuning in mixed precision: ``{'dtype', 'initial_scale', 'final_scale', 'steps', 'skipped',
        'difference'}``. ``difference`` is the norm of the difference of the tuned kernels from those of float32, divided by
        the norm of what tuning in float32 changed.
    """
    expected = tune(settings, torch.float32, None, size, base, steps)[0]
    rows = []
    for dtype, initial in ((torch.bfloat16, None), *((torch.float16, scale) for scale in SCALES)):
        change, skipped, final = tune(settings, dtype, initial, size, base, steps)
        rows.append(dict(dtype=str(dtype).removeprefix('torch.'), initial_scale=initial, final_scale=final, steps=steps,
                         skipped=skipped, difference=((change - expected).norm() / expected.norm()).item()))
    return rows


def tune(settings: Settings, dtype: torch.dtype, initial_scale: float | None, size: str, base: int,
         steps: int) -> tuple[Tensor, int, float | None]:
    """Tune a new model by SGD; the number of a step seeds its resolutions.

    Args:
        initial_scale: Loss scale of the first step; None for no loss scaling.

    Returns:
        The change of all kernels (P,), the number of skipped steps, and the loss scale at the end.
    """
    settings = replace(settings, dtype=dtype)
    trainee = setr_trainee(size, base, True, settings)
    kernels = [p for p in trainee.model.parameters() if p.requires_grad]
    before = [kernel.detach().clone() for kernel in kernels]
    optimizer = torch.optim.SGD(kernels, lr=1e-2, momentum=0.9)
    scaler = torch.amp.GradScaler(torch.device(settings.device).type, init_scale=initial_scale or 1.,
                                  enabled=initial_scale is not None)
    skipped, seed = 0, 0
    while seed < steps:
        torch.manual_seed(seed)
        with settings.autocast():
            loss = total(trainee.tuning_losses())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        overflowed = scaler.get_scale() < scale
        skipped, seed = skipped + overflowed, seed + (not overflowed)
    change = torch.cat([(kernel.detach() - old).flatten() for kernel, old in zip(kernels, before)])
    return change, skipped, scaler.get_scale() if initial_scale else None
