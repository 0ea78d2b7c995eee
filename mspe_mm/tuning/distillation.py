"""Tuning without labels: the model at the base resolution, with its pretrained kernel, teaches the other kernels.

Everything but the kernels is frozen, so the model itself is the teacher, on the same images at the base resolution. Its
forward pass runs once in a step, without gradient, and all students of the step share it. A student is the model on the
images at one resolution. The outputs of the two are compared token by token; annotations are not needed. A student on
another token grid has outputs on another grid too. Either they are first brought to the teacher's, as the host brings them
to the image's size, or the teacher has the student's grid: it sees the images at the size that its patches cut into it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers.patch_embed import MultiScalePatchEmbed
from .early_backward import Losses

OBJECTIVES = ('task', 'distill', 'both', 'features', 'task+features')
"""``'task'``: the host's losses. ``'distill'``: the distance of the outputs to the teacher's. ``'both'``: their sum, of the
same pass. ``'features'``: the distance of the features that the heads see to the teacher's; heads do not run.
``'task+features'``: the host's losses and that distance, of the same pass."""


def distillation_loss(patch_embed: MultiScalePatchEmbed, images: Tensor, outputs: Callable[[Tensor], Any],
                      distance: Callable[[Any, Any], Tensor], task_losses: Callable[[Any], Losses] | None = None,
                      teacher_follows_grid: bool = False) -> Callable[[Tensor], Losses]:
    """The loss of a student: its distance to the teacher on ``images``, as ``loss_distill``.

    Args:
        patch_embed: The layer inside the model that ``outputs`` runs.
        images: (B, C, H, W) at the base resolution. The teacher sees them without gradient.
        outputs: A forward pass of the model; the attribute ``compared`` of its result is compared.
        distance: Maps the ``compared`` outputs of student and teacher to a scalar.
        task_losses: Maps the outputs of a pass to the host's losses, which are added (the objective ``'both'``).
        teacher_follows_grid: Whether the teacher of a student on another token grid is on that grid too, and not on the base
            grid: for outputs that tell the sizes of objects in tokens, as a detector's features do.

    Returns:
        A function that maps the images (B, C, h, w) of a student to its losses, for
        :class:`~mspe_mm.tuning.kernel_objective.MultiResolutionObjective`.
    """
    @cache
    def teacher(grid: tuple[int, int]) -> Any:
        seen = patch_embed.downsampling.resize(images, patch_embed.stock_size(grid))
        with torch.no_grad(), patch_embed.pretrained_only(), patch_embed.force_grid(grid):
            return outputs(seen).compared

    def loss(images: Tensor) -> Losses:
        height, width = images.shape[-2:]
        grid = patch_embed.grid_for((height, width))
        reference = grid if teacher_follows_grid else patch_embed.grid_size
        target = teacher(reference)
        student = outputs(images)
        losses = {} if task_losses is None else task_losses(student)
        compared = student.compared
        if grid != reference:
            compared = on_grid_of(target, compared)
        return {**losses, 'loss_distill': distance(compared, target)}

    return loss


def logit_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``KL(teacher || student)`` of the class probabilities, the mean over the batch and its pixels.

    Args:
        student: (B, classes, ...) logits. The probability of a single class is its sigmoid; the rest is the other class.
        teacher: The same.

    Raises:
        ValueError: If the logits are on different grids.
    """
    check_grids(student, teacher)
    if student.shape[1] == 1:
        student, teacher = (torch.cat([logits, torch.zeros_like(logits)], 1) for logits in (student, teacher))
    log_q, log_p = (F.log_softmax(_wide(logits), dim=1) for logits in (student, teacher))
    return F.kl_div(log_q, log_p, log_target=True, reduction='none').sum(1).mean()


def feature_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """``|s - t|^2 / |t|^2`` of the features of a level, over the whole batch; the mean over the levels of a pyramid.

    The distance is relative, so that all levels have the same weight, whatever their size and the scale of their features.

    Args:
        student: Levels (B, C, rows, columns). Tokens outside of the grid, (B, tokens, D), are a level too.
        teacher: The same.

    Raises:
        ValueError: If the features are on different grids.
    """
    errors = []
    for s, t in zip(student, teacher):
        check_grids(s, t)
        s, t = _wide(s), _wide(t)
        errors.append((s - t).square().sum() / t.square().sum().clamp_min(torch.finfo(t.dtype).tiny))
    return torch.stack(errors).mean()


def on_grid_of(teacher: Any, student: Any) -> Any:
    """``student`` resized bilinearly to the rows and columns of ``teacher``.

    Args:
        teacher: Outputs (B, C, rows, columns), or levels of these. Outputs of another number of axes have no grid.
        student: The same on another grid, which covers the same image.
    """
    if not isinstance(teacher, Tensor):
        return [on_grid_of(t, s) for t, s in zip(teacher, student)]
    if teacher.ndim != 4 or teacher.shape == student.shape:
        return student
    return F.interpolate(_wide(student), teacher.shape[-2:], mode='bilinear', antialias=True)


def check_grids(student: Tensor, teacher: Tensor) -> None:
    """Raise a ValueError if the outputs of student and teacher are not on the same grid."""
    if student.shape != teacher.shape:
        raise ValueError(f'the teacher has outputs of {tuple(teacher.shape)}, and a student of {tuple(student.shape)}: to '
                         "be compared they need one token grid, so take kernel_policy='fixed' and train at the base "
                         'resolution')


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least: sums of squares overflow float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
