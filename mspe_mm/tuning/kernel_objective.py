"""The multi-resolution objective that tunes the patch kernels (Eq. 7)."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from ..errors import check_choice
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.resolution import SAMPLINGS, draw_patch_size, resolution_for
from .distillation import OBJECTIVES
from .early_backward import EarlyBackward, Losses


@dataclass
class MultiResolutionObjective:
    """``L = sum_i l(Enc(g_i(resize(x, r_i))), y) + lambda l(Enc(g(x)), y)`` (Eq. 7).

    Each tunable kernel i sees the batch at one resolution, drawn anew at every step, on its token grid. Labels stay at the
    base resolution: ``task_loss`` closes over them. With a frozen base kernel the last term is a constant, and so is the
    first sum's term for the base size; both passes are skipped.

    The passes run one after another, each with its backward pass, so that a step needs the memory of one pass, see
    :class:`~mspe_mm.tuning.early_backward.EarlyBackward`. Everything but the kernels has to be frozen, see
    :func:`~mspe_mm.tuning.freezing.freeze_all_but_kernels`.

    Args:
        base_weight: lambda.
        sampling: ``'double'``, ``'partition'`` or ``'native'``, see :func:`~mspe_mm.layers.resolution.sampling_range`.
        aspect_jitter: Draw height and width of a resolution independently.
        objective: Which loss l a pass has, one of :data:`~mspe_mm.tuning.distillation.OBJECTIVES`; ``task_loss`` has to
            compute it.
    """

    base_weight: float = 1.0
    sampling: str = 'double'
    aspect_jitter: bool = False
    objective: str = 'task'
    freeze = True    # the early backward passes differentiate the kernels alone
    at_base = True
    _early_backward: EarlyBackward = field(default_factory=EarlyBackward, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice('sampling', self.sampling, SAMPLINGS)
        check_choice('objective', self.objective, OBJECTIVES)
        if self.base_weight < 0:
            raise ValueError(f'base_weight (lambda of Eq. 7) must not be negative, got {self.base_weight}')

    def __call__(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss: Callable[[Tensor], Losses],
                 model: nn.Module | None = None) -> Losses:
        """Losses of one step, by kernel.

        Args:
            patch_embed: The layer inside the model that ``task_loss`` runs.
            images: (B, C, H, W) at the base resolution.
            task_loss: Maps images (B, C, h, w) to the model's losses by name; names with ``loss`` in them are summed by
                the trainer, with weight 1, others are only logged.
            model: The model, if more than the kernels trains. By default only the kernels train.

        Returns:
            The losses named ``k<size>.<name>``, on another token grid ``k<size>g<rows>x<columns>.<name>``, and
            ``base.<name>`` for the lambda term. Only their sum may be differentiated: one loss of each pass carries the
            gradient of that pass.
        """
        passes = {f'k{patch_embed.name_of(index, grid)}': partial(
                      self._kernel_losses, patch_embed, images, task_loss, index, grid)
                  for grid, indices in patch_embed.own_kernels().items() for index in indices}
        if self.base_weight and patch_embed.patch_size in patch_embed.own_sizes:
            passes['base'] = partial(self._base_losses, images, task_loss)
        losses: Losses = {}
        for prefix, compute_losses in passes.items():
            terms = self._early_backward(model or patch_embed.kernels, compute_losses)
            losses.update({f'{prefix}.{name}': value for name, value in terms.items()})
        return losses

    def _kernel_losses(self, patch_embed: MultiScalePatchEmbed, images: Tensor, task_loss: Callable[[Tensor], Losses],
                       index: int, grid: tuple[int, int]) -> Losses:
        patch = draw_patch_size(patch_embed.kernel_sizes, index, self.sampling, self.aspect_jitter)
        height, width = images.shape[-2:]
        size = resolution_for((height, width), patch, patch_embed.patch_size, grid, patch_embed.grid_size)
        with patch_embed.force_kernel(index), patch_embed.force_grid(grid):
            return task_loss(patch_embed.downsampling.resize(images, size))

    def _base_losses(self, images: Tensor, task_loss: Callable[[Tensor], Losses]) -> Losses:
        return {name: _scale(value, self.base_weight) if 'loss' in name else value
                for name, value in task_loss(images).items()}


def _scale(value: Tensor | list[Tensor], factor: float) -> Tensor | list[Tensor]:
    return [v * factor for v in value] if isinstance(value, list) else value * factor
