"""Differentiating a loss right after it is computed, so that its activations are freed before the next loss is computed.

The values and the gradient of the parameters are kept. One value carries that gradient: a later backward pass through this
value adds the gradient to the parameters. So nothing changes for the trainer: gradient accumulation, clipping, GradScaler
and the hooks of DistributedDataParallel work as usual.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Losses = dict[str, 'Tensor | list[Tensor]']


class EarlyBackward:
    """Computes losses together with their gradient.

    It is the gradient of the sum of all losses with ``loss`` in their names. Each has weight 1; a tensor counts by its mean,
    a list by the sum of its means. A trainer has to minimise that sum; other weights have to be in the losses already.

    Attributes:
        loss_scale: Float32 scalar. The sum is multiplied by it while it is differentiated, so that float16 gradients do not
            underflow: GradScaler scales only afterwards. It is the gradient scale seen in the previous step, and at first
            GradScaler's default. A gradient that overflows is passed on unchanged; GradScaler then skips the step and lowers
            the scale. In types with float32's range, powers of 2 change nothing.
    """

    def __init__(self) -> None:
        self.loss_scale = torch.tensor(2.**16)

    def __call__(self, module: nn.Module, compute_losses: Callable[[], Losses]) -> Losses:
        """Compute losses, and the gradient of their sum with respect to a module's parameters.

        Args:
            module: Holds all parameters that require a gradient.
            compute_losses: Returns the losses by name. While it runs, ``module`` has the parameters of :func:`stand_ins`.

        Returns:
            The same values, detached except one, which carries the gradient of the sum. Where gradients are disabled, or no
            loss requires one, the losses unchanged.

        Raises:
            RuntimeError: If a parameter outside of the module would get a gradient, or no parameter of the module gets one.
        """
        if not torch.is_grad_enabled():
            return compute_losses()
        with stand_ins(module) as pairs:
            losses = compute_losses()
            names = [name for name, value in losses.items()
                     if 'loss' in name and any(term.requires_grad for term in _terms(value))]
            if not names:
                return losses
            total = cast(Tensor, sum(term.mean() for name in names for term in _terms(losses[name])))
            if others := _leaves(total) - {stand_in for _, stand_in in pairs}:
                raise RuntimeError(f'{len(others)} tensors outside of the trained module require a gradient (the first is '
                                   f'{tuple(next(iter(others)).shape)}): freeze them, or give the module that has all')
            scale = self.loss_scale = self.loss_scale.to(total.device)
            # Outside of autocast, as in trainers. By backward(), because reentrant checkpoints refuse autograd.grad.
            with torch.autocast(total.device.type, enabled=False):
                (total * scale).backward()
        known = [(parameter, stand_in.grad) for parameter, stand_in in pairs if stand_in.grad is not None]
        if not known:
            raise RuntimeError(f'{names[0]} requires a gradient, and none arrived at the parameters that are trained: '
                               'freeze the others; a compiled model needs a newer PyTorch')
        losses = {name: _like(value, [term.detach() for term in _terms(value)]) for name, value in losses.items()}
        value = losses[names[0]]
        first, *rest = _terms(value)
        carrier = _HandOn.apply(first, self, scale, [gradient for _, gradient in known], *(p for p, _ in known))
        losses[names[0]] = _like(value, [carrier, *rest])
        return losses


class _HandOn(torch.autograd.Function):
    """A value whose gradient with respect to the parameters is known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, early_backward: EarlyBackward, scale: Tensor, gradients: list[Tensor],
                *parameters: nn.Parameter) -> Tensor:
        ctx.early_backward, ctx.scale, ctx.gradients = early_backward, scale, gradients
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        factor = grad_output.sum().to(ctx.scale)    # the gradient of a mean is spread over the elements
        ctx.early_backward.loss_scale = torch.where(factor > 0, factor, ctx.scale)    # without waiting for the device
        return None, None, None, None, *(gradient * (factor / ctx.scale) for gradient in ctx.gradients)


@contextmanager
def stand_ins(module: nn.Module) -> Iterator[list[tuple[nn.Parameter, nn.Parameter]]]:
    """Within the context, a stand-in with its own ``grad`` replaces each trained parameter, on the same memory.

    A backward pass inside the context does not run hooks on the parameters, such as DistributedDataParallel's.

    Yields:
        Pairs of a parameter and its stand-in.
    """
    replaced = [(owner, name, parameter) for owner in module.modules()
                for name, parameter in owner.named_parameters(recurse=False) if parameter.requires_grad]
    stand_in_of = {parameter: nn.Parameter(parameter.detach()) for _, _, parameter in replaced}    # tied weights share one
    pairs = list(stand_in_of.items())
    try:
        for owner, name, parameter in replaced:
            setattr(owner, name, stand_in_of[parameter])
        yield pairs
    finally:
        for owner, name, parameter in replaced:
            setattr(owner, name, parameter)


def _leaves(total: Tensor) -> set[Tensor]:
    """The leaves of the graph of ``total``: the tensors whose ``grad`` a backward pass would add to.

    Parts that a reentrant checkpoint recomputes are not yet in the graph.
    """
    leaves: set[Tensor] = set()
    seen: set[Any] = set()
    todo: list[Any] = [total.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == 'torch::autograd::AccumulateGrad':
            leaves.add(node.variable)
        todo += [following for following, _ in node.next_functions]
    return leaves


def _terms(value: Tensor | list[Tensor]) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


def _like(value: Tensor | list[Tensor], terms: list[Tensor]) -> Tensor | list[Tensor]:
    return terms if isinstance(value, list) else terms[0]
