"""One checkpoint for many compute budgets: a coarser or finer token grid at the same input resolution (FlexiViT).

A grid of (rows, columns) tokens needs a patch kernel of H / rows x W / columns pixels, which PI-resize computes; the host
resamples the positions. A coarser grid is faster, a finer one is more accurate.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import check_choice
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.token_grids import grid_pairs
from .distillation import OBJECTIVES
from .early_backward import Losses


def tileable_size(image_size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """The size nearest to ``image_size`` (height, width) that ``grid`` (rows, columns) cuts into whole patches."""
    height, width = (tokens * max(1, round(length / tokens)) for length, tokens in zip(image_size, grid))
    return height, width


@dataclass
class TokenGridObjective:
    """The task's loss at a token grid that is drawn anew, uniformly, in every step (FlexiViT's random patch size).

    The images keep their resolution, rounded to whole patches of the grid. With ``freeze``, grids that the frozen pretrained
    kernel embeds have nothing to train and are not drawn.

    Args:
        token_grids: The grids, each one number or (rows, columns).
        freeze: Train the kernels alone. If False, all weights train, as in FlexiViT: if ``kernel_sizes`` has the pretrained
            size only, one kernel is resized to every patch size.
        objective: What the loss is, one of :data:`~mspe_mm.tuning.distillation.OBJECTIVES`. The teacher is on the base grid.
    """

    token_grids: Sequence[Any]    # pairs from __post_init__ on
    freeze: bool = True
    objective: str = 'task'

    def __post_init__(self) -> None:
        self.token_grids = grid_pairs(self.token_grids)
        if not self.token_grids:
            raise ValueError('token_grids must be positive numbers of tokens, got none')
        check_choice('objective', self.objective, OBJECTIVES)

    @property
    def at_base(self) -> bool:
        """For the teacher. Without one, images of any resolution are brought to the grid."""
        return self.objective != 'task'

    def __call__(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss: Callable[[Tensor], Losses],
                 model: nn.Module | None = None) -> Losses:
        """Losses of one step, named ``g<rows>x<columns>.<name>``.

        Args:
            patch_embed: The layer inside the model that ``task_loss`` runs.
            images: (B, C, H, W).
            task_loss: Maps images (B, C, h, w) to the model's losses by name.
            model: Not used: the losses keep their graph, so all weights that train get their gradients.

        Raises:
            ValueError: If no grid has a kernel that trains.
        """
        height, width = images.shape[-2:]
        grids = self.trainable_grids(patch_embed, (height, width))
        if not grids:
            raise ValueError(f'token_grids {self.token_grids} of images of {height} x {width} px all '
                             'use the frozen pretrained kernel: add grids, set tune_base=True or tuning.freeze=False')
        rows, columns = grids[int(torch.randint(len(grids), ()))]
        size = tileable_size((height, width), (rows, columns))
        resized = patch_embed.downsampling.resize(images, size)
        with patch_embed.force_grid((rows, columns)):
            return {f'g{rows}x{columns}.{name}': value for name, value in task_loss(resized).items()}

    def trainable_grids(self, patch_embed: MultiScalePatchEmbed, image_size: tuple[int, int]) -> list[tuple[int, int]]:
        """The grids for which an image of ``image_size`` (height, width) is embedded by weights that train."""
        if not self.freeze:
            return list(self.token_grids)
        grids = []
        for grid in self.token_grids:
            with patch_embed.force_grid(grid):
                index = patch_embed.kernel_index(tileable_size(image_size, grid))
            if patch_embed.name_of(index, grid) in patch_embed.kernels:
                grids.append(grid)
        return grids
