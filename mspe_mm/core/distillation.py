"""Tuning without labels: the model at the base resolution, with its pretrained kernel, teaches the kernels of the others.

Everything but the kernels is frozen, so the teacher is the model itself on the same images as they are: one forward pass
without gradient in a step, which all students of the step share. A student is the model on the images at one resolution, on
the same token grid; what the two make of the images is compared place by place, and no annotation has a part in it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .early_backward import Losses
from .patch_embed import MultiScalePatchEmbed

OBJECTIVES = ('task', 'distill', 'both')
"""task: the host's losses, of the annotations. distill: the distance to the teacher. both: their sum, of one pass."""

Outputs = TypeVar('Outputs')
Pass = Callable[[Tensor], tuple[Outputs, Callable[[], Losses]]]
"""What a model makes of images (B, C, h, w): outputs that can be compared, and the host's losses of the same pass."""


def check_objective(objective: str) -> None:
    """Raise a ValueError that lists the choices if ``objective`` is none of them."""
    if objective not in OBJECTIVES:
        raise ValueError(f'unknown objective {objective!r}: choose one of {", ".join(OBJECTIVES)}')


def require_annotations(objective: str, annotated: bool) -> None:
    """Raise an InputError if ``objective`` needs annotations and the batch has none."""
    if objective != 'distill' and not annotated:
        raise InputError(f'the training data has no annotations, and tuning.objective={objective!r} needs them: set '
                         "model.tuning.objective='distill', or load annotations in the train_pipeline")


def distillation_loss(patch_embed: MultiScalePatchEmbed, images: Tensor, forward: Pass,
                      distance: Callable[[Outputs, Outputs], Tensor], with_task: bool) -> Callable[[Tensor], Losses]:
    """The loss of a student: its distance to the teacher on ``images``, as ``loss_distill``.

    Args:
        patch_embed: The layer inside the model that ``forward`` runs.
        images: (B, C, H, W) at the base resolution. The teacher sees them at once.
        forward: A forward pass of the model.
        distance: Maps the outputs of student and teacher to a scalar.
        with_task: Add the host's losses (the objective ``'both'``).

    Returns:
        What maps the images (B, C, h, w) of a student to its losses, for
        :class:`~mspe_mm.core.MultiResolutionObjective`.
    """
    with torch.no_grad(), patch_embed.pretrained_only():
        teacher, _ = forward(images)

    def loss(images: Tensor) -> Losses:
        student, task_losses = forward(images)
        losses = task_losses() if with_task else {}
        return {**losses, 'loss_distill': distance(student, teacher)}

    return loss


def logit_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``KL(teacher || student)`` of the class probabilities, the mean over the batch and its pixels.

    Args:
        student: (B, classes, ...) logits. A single class is a sigmoid's: its probability is compared beside the rest.
        teacher: The same.

    Raises:
        ValueError: For logits on other grids.
    """
    check_grids(student, teacher)
    if student.shape[1] == 1:
        student, teacher = (torch.cat([logits, torch.zeros_like(logits)], 1) for logits in (student, teacher))
    log_q, log_p = (F.log_softmax(_wide(logits), dim=1) for logits in (student, teacher))
    return F.kl_div(log_q, log_p, log_target=True, reduction='none').sum(1).mean()


def feature_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """``|s - t|^2 / |t|^2`` of the features of a level, over the whole batch; the mean over the levels of a pyramid.

    Relative, so that the levels count alike whatever their number of places and the size of their numbers.

    Args:
        student: Levels (B, C, rows, columns).
        teacher: The same.

    Raises:
        ValueError: For features on other grids.
    """
    errors = []
    for s, t in zip(student, teacher):
        check_grids(s, t)
        s, t = _wide(s), _wide(t)
        errors.append((s - t).square().sum() / t.square().sum().clamp_min(torch.finfo(t.dtype).tiny))
    return torch.stack(errors).mean()


def check_grids(student: Tensor, teacher: Tensor) -> None:
    """Raise a ValueError if outputs of student and teacher cannot be compared place by place."""
    if student.shape != teacher.shape:
        raise ValueError(f'the teacher has outputs of {tuple(teacher.shape)}, and a student of {tuple(student.shape)}: to '
                         "be compared they need one token grid, so take kernel_policy='fixed' and train at the base "
                         'resolution')


def _wide(x: Tensor) -> Tensor:
    """``x`` in float32 at least: sums of squares overflow float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
