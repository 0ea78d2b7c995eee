"""Second moments of pairs of vectors, accumulated batch by batch, and the error of a linear map on them."""
from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


class PairMoments:
    """Count, means and covariances of pairs of vectors (u, t), in float64 and in constant memory.

    Args:
        inputs: Length d of u.
        targets: Length D of t.
        device: Where the pairs are.
    """

    def __init__(self, inputs: int, targets: int, device: torch.device | str = 'cpu') -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.count = 0
        self.input_mean, self.target_mean = zeros(inputs), zeros(targets)
        # Sums of products of deviations from the means; for the targets only the sum of squares.
        self._inputs, self._cross, self._targets = zeros(inputs, inputs), zeros(targets, inputs), zeros()

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        """Add the pairs of ``inputs`` (..., d) and ``targets`` (..., D)."""
        u, t = inputs.double().flatten(0, -2), targets.double().flatten(0, -2)
        if len(u) == 0:
            return
        # Each batch is centred on its own mean (Chan, Golub and LeVeque 1979): sums of raw squares would lose digits.
        u_mean, t_mean = u.mean(0), t.mean(0)
        u, t = u - u_mean, t - t_mean
        u_step, t_step = u_mean - self.input_mean, t_mean - self.target_mean
        share = len(u) / (self.count + len(u))
        between = self.count * share
        self._inputs.addmm_(u.T, u).addr_(u_step, u_step, alpha=between)
        self._cross.addmm_(t.T, u).addr_(t_step, u_step, alpha=between)
        self._targets += t.square().sum() + between * t_step.square().sum()
        self.input_mean += share * u_step
        self.target_mean += share * t_step
        self.count += len(u)

    def all_reduce(self) -> None:
        """Become the moments of the pairs of all processes of ``torch.distributed``; every process has to call it."""
        own, own_input_mean, own_target_mean = self.count, self.input_mean, self.target_mean
        self.count = int(_over_processes(torch.tensor(own, device=self.input_mean.device)))
        whole = max(1, self.count)
        self.input_mean = _over_processes(own / whole * own_input_mean)
        self.target_mean = _over_processes(own / whole * own_target_mean)
        # As in update: what is between the processes' means is added to what is within.
        u_step, t_step = own_input_mean - self.input_mean, own_target_mean - self.target_mean
        self._inputs = _over_processes(self._inputs.addr(u_step, u_step, alpha=own))
        self._cross = _over_processes(self._cross.addr(t_step, u_step, alpha=own))
        self._targets = _over_processes(self._targets + own * t_step.square().sum())

    @property
    def input_covariance(self) -> Tensor:
        """(d, d)."""
        return self._inputs / self.count

    @property
    def cross_covariance(self) -> Tensor:
        """(D, d), of t with u."""
        return self._cross / self.count

    @property
    def target_variance(self) -> float:
        """``E |t - E t|^2``."""
        return (self._targets / self.count).item()


def _over_processes(value: Tensor) -> Tensor:
    """The sum of the values of all processes."""
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total


def token_error(moments: PairMoments, weight: Tensor, bias: Tensor | None = None) -> float:
    """The share of the tokens' variance that a kernel does not explain, ``E |t - W u - b|^2 / E |t - E t|^2``.

    Args:
        moments: Of the pairs (u, t), t the target tokens.
        weight: W, (D, d).
        bias: b, (D); None for zero.

    Raises:
        ValueError: If there are no pairs, or their tokens do not vary.
    """
    rounding = 1e-20 * moments.target_mean.square().sum().item()    # the variance of tokens that differ by rounding only
    if moments.count == 0 or moments.target_variance <= rounding:
        raise ValueError(f'{moments.count} pairs of patches, and their tokens do not vary: give more images, and images of '
                         'more than one colour')
    weight = weight.double()
    missed = moments.target_mean - weight @ moments.input_mean - (0 if bias is None else bias)
    product = 2 * moments.cross_covariance - weight @ moments.input_covariance
    return (moments.target_variance - (weight * product).sum() + missed.square().sum()).item() / moments.target_variance
