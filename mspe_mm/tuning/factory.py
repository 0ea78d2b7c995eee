"""The objective that a model's ``tuning`` settings describe."""
from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Protocol

from torch import Tensor, nn

from ..errors import InputError, check_names
from ..layers.patch_embed import MultiScalePatchEmbed
from .early_backward import Losses
from .kernel_objective import MultiResolutionObjective
from .mixed_objective import MixedResolutionObjective
from .token_grid_objective import TokenGridObjective


class Objective(Protocol):
    """The objective of a training step: a dataclass whose fields are its settings.

    Attributes:
        objective: Which loss a pass has, one of :data:`~mspe_mm.tuning.distillation.OBJECTIVES`.
        freeze: Whether the kernels alone train.
        at_base: Whether training images have to be at the base resolution.
    """

    objective: str
    freeze: bool
    at_base: bool

    def __call__(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss: Callable[[Tensor], Losses],
                 model: nn.Module | None = None) -> Losses:
        """Losses of one step of ``model``: ``task_loss`` maps images (B, C, h, w) to the losses of a pass."""


OBJECTIVE_TYPES: dict[str, type] = {cls.__name__: cls for cls in (
    MultiResolutionObjective, MixedResolutionObjective, TokenGridObjective)}


def register_objective(cls: type) -> type:
    """Class decorator: ``tuning=dict(type='<name of the class>', ...)`` then builds this :class:`Objective`."""
    OBJECTIVE_TYPES[cls.__name__] = cls
    return cls


def build_objective(tuning: Mapping) -> Objective:
    """The objective of ``tuning``.

    Args:
        tuning: The arguments of an objective. ``type`` names its class; without it, ``token_grids`` among them means
            :class:`~mspe_mm.tuning.token_grid_objective.TokenGridObjective`, and otherwise it is the objective of Eq. 7,
            :class:`~mspe_mm.tuning.kernel_objective.MultiResolutionObjective`.

    Raises:
        InputError: For an unknown type or argument, with the nearest valid name.
        ValueError: For a value that the objective refuses.
    """
    settings = dict(tuning)
    name = settings.pop('type', 'TokenGridObjective' if 'token_grids' in settings else 'MultiResolutionObjective')
    if name not in OBJECTIVE_TYPES:
        near = difflib.get_close_matches(str(name), OBJECTIVE_TYPES, n=1)
        hint = f': did you mean {near[0]!r}? The' if near else '; the'
        raise InputError(f'tuning has no type {name!r}{hint} types are {", ".join(OBJECTIVE_TYPES)}')
    cls = OBJECTIVE_TYPES[name]
    check_names(settings, [field.name for field in fields(cls) if field.init], 'tuning')
    return cls(**settings)
