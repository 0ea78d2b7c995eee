"""One pass a step, in which every image has a resolution of its own."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import check_choice
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.resolution import SAMPLINGS, draw_patch_size, resolution_for
from .distillation import OBJECTIVES
from .early_backward import Losses


@dataclass
class MixedResolutionObjective:
    """``L = E_i l(Enc(g_i(resize(x, r_i))), y)`` over a batch whose images have a kernel and a resolution each.

    It is Eq. 7 with the sum over the kernels estimated by one draw an image, instead of computed by one pass a kernel. The
    token grid is the same for all images, so that they share one pass through the encoder. Where the layer has kernels for
    several token grids, the grid is drawn anew in every step, uniformly, and the kernels are those of the grid. Of the base
    resolution, whose kernel is frozen, nothing is drawn unless ``tune_base`` gives it a kernel that trains. Several
    processes whose generators are alike, as in ``tools/train.py``, draw what one process draws for the images of all.

    Args:
        sampling: ``'double'``, ``'partition'`` or ``'native'``, see :func:`~mspe_mm.layers.resolution.sampling_range`.
        aspect_jitter: Draw height and width of a resolution apart.
        objective: What the loss l is, one of :data:`~mspe_mm.tuning.distillation.OBJECTIVES`.
    """

    sampling: str = 'double'
    aspect_jitter: bool = False
    objective: str = 'task'
    freeze = True
    at_base = True

    def __post_init__(self) -> None:
        check_choice('sampling', self.sampling, SAMPLINGS)
        check_choice('objective', self.objective, OBJECTIVES)

    def __call__(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss: Callable[[Tensor], Losses],
                 model: nn.Module | None = None) -> Losses:
        """Losses of one step.

        Args:
            patch_embed: The layer inside the model that ``task_loss`` runs.
            images: (B, C, H, W) at the base resolution.
            task_loss: Maps images (B, C, h, w) to the model's losses by name. It gets an input that stands for the batch.
            model: Not used: the losses have their graph, whatever trains.
        """
        sizes, own = patch_embed.kernel_sizes, patch_embed.own_kernels()
        grids = [*own]
        grid = grids[int(torch.randint(len(grids), ())) if len(grids) > 1 else 0]
        trained = own[grid]
        # Each process draws for the images of all and takes its own: image i is one of process i modulo their number.
        rank, processes = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
        # Every kernel as often as the batch allows, in an order of its own: less noise than independent draws.
        first = int(torch.randint(len(trained), ()))    # who has one image more, if the batch does not divide
        order = torch.randperm(processes * len(images)).tolist()
        kernels = [trained[(first + place) % len(trained)] for place in order]
        patches = [draw_patch_size(sizes, index, self.sampling, self.aspect_jitter) for index in kernels]
        kernels, patches = kernels[rank::processes], patches[rank::processes]
        small = []
        for image, patch in zip(images.split(1), patches):
            size = resolution_for(image.shape[-2:], patch, patch_embed.patch_size, grid, patch_embed.grid_size)
            small.append(patch_embed.downsampling.resize(image, size))
        with patch_embed.force_grid(grid), patch_embed.embedding_each(small, kernels):
            return task_loss(patch_embed.stand_in(small))


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
