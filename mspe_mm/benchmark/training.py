"""Ways to train at several resolutions in one step: the one of this package and those that it is compared with."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.resolution import draw_patch_size
from .ratios import Settings
from .timing import Step

Losses = dict[str, 'Tensor | list[Tensor]']


@dataclass
class Trainee:
    """A model in training and its data.

    Args:
        model: The model.
        layer: The MSPE layer of the model.
        images: (B, C, H, W) at the base resolution.
        tuning_losses: Computes the losses of Eq. 7 by the package.
        losses: Computes the losses of one pass by the host, from images (B, C, h, w).
    """

    model: nn.Module
    layer: MultiScalePatchEmbed
    images: Tensor
    tuning_losses: Callable[[], Losses]
    losses: Callable[[Tensor], Losses]

    def passes(self, seed: int) -> list[tuple[int, tuple[int, int]]]:
        """Kernel index and resolution of each pass of a step, as drawn by the objective."""
        torch.manual_seed(seed)
        kernels = self.layer.kernel_sizes
        patches = [draw_patch_size(kernels, index) for index in range(len(kernels))]
        return [(index, tuple(round(length * p / self.layer.patch_size) for length, p in zip(self.images.shape[-2:], patch)))
                for index, patch in enumerate(patches)]

    def one_pass(self, index: int, size: tuple[int, int]) -> Tensor:
        """The loss of the images resized to ``size`` and embedded by kernel ``index``."""
        images = self.layer.downsampling.resize(self.images, size)
        with self.layer.force_kernel(index):
            return total(self.losses(images))


def total(losses: Losses) -> Tensor:
    """The sum of all entries with ``loss`` in their names, which a trainer minimises."""
    return sum(sum(value) if isinstance(value, list) else value for name, value in losses.items() if 'loss' in name)


# Each way computes the gradients of a step into the parameters and returns the loss.

Way = Callable[[Trainee, int, Settings], Tensor]


def by_the_package(trainee: Trainee, seed: int, settings: Settings) -> Tensor:
    torch.manual_seed(seed)
    with settings.autocast():
        loss = total(trainee.tuning_losses())
    loss.backward()
    return loss.detach()


def one_after_the_other(trainee: Trainee, seed: int, settings: Settings) -> Tensor:
    losses = []
    for index, size in trainee.passes(seed):
        with settings.autocast():
            loss = trainee.one_pass(index, size)
        loss.backward()
        losses.append(loss.detach())
    return sum(losses)


def in_one_graph(trainee: Trainee, seed: int, settings: Settings) -> Tensor:
    with settings.autocast():
        loss = sum(trainee.one_pass(index, size) for index, size in trainee.passes(seed))
    loss.backward()
    return loss.detach()


def the_largest_alone(trainee: Trainee, seed: int, settings: Settings) -> Tensor:
    index, size = max(trainee.passes(seed), key=lambda item: item[1])
    with settings.autocast():
        loss = trainee.one_pass(index, size)
    loss.backward()
    return loss.detach()


def training(make: Callable[[], Trainee], way: Way, settings: Settings) -> Step:
    """A step of training by ``way`` with the paper's optimiser. The number of the round seeds the resolutions."""
    trainee = make()
    optimizer = torch.optim.SGD([p for p in trainee.model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9,
                                weight_decay=5e-4)

    def step(seed: int) -> Tensor:
        loss = way(trainee, seed, settings)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss
    return step
