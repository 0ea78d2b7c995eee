"""Moments gathered in batches are those of all pairs at once, and errors made of them are those of the pairs."""
import numpy as np
import pytest
import torch
from helpers import noise
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.calibration.moments import PairMoments, token_error


def gather(u, t, cuts=()):
    """Moments of the rows of u and t, in batches that end at ``cuts``."""
    moments = PairMoments(u.shape[-1], t.shape[-1])
    for start, end in zip([0, *cuts], [*cuts, len(u)]):
        moments.update(u[start:end], t[start:end])
    return moments


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.lists(st.integers(0, 40), max_size=4),
       st.sampled_from([0., 1e3]), st.integers(0, 1000))
def test_batches_of_any_size_give_the_means_and_covariances_of_all_pairs(count, inputs, targets, cuts, offset, seed):
    u, t = noise(count, inputs, seed=seed) + offset, noise(count, targets, seed=seed + 1) - offset
    moments = gather(u, t, sorted(min(cut, count) for cut in cuts))
    assert moments.count == count
    pairs = np.concatenate([u, t], 1)
    covariance = (pairs - pairs.mean(0)).T @ (pairs - pairs.mean(0)) / count
    # Raw sums of squares would lose 1e6 eps = 2e-10 here, where values stand at 1000.
    np.testing.assert_allclose(moments.input_mean, u.mean(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.target_mean, t.mean(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(moments.input_covariance, covariance[:inputs, :inputs], rtol=0, atol=1e-11)
    np.testing.assert_allclose(moments.cross_covariance, covariance[inputs:, :inputs], rtol=0, atol=1e-11)
    assert moments.target_variance == pytest.approx(np.trace(covariance[inputs:, inputs:]), abs=1e-11)


def test_leading_dimensions_are_batches_too_and_single_precision_is_taken():
    u, t = noise(2, 3, 5, 4, dtype=torch.float32), noise(2, 3, 5, 2, dtype=torch.float32)
    moments, flat = PairMoments(4, 2), gather(u.double().flatten(0, 2), t.double().flatten(0, 2))
    moments.update(u, t)
    assert torch.equal(moments.input_covariance, flat.input_covariance)
    assert moments.input_mean.dtype == torch.float64


def test_memory_does_not_grow_with_the_pairs():
    def held(moments):
        return sum(value.numel() for value in vars(moments).values() if isinstance(value, torch.Tensor))

    u, t = noise(1000, 6), noise(1000, 3)
    assert held(gather(u, t, range(10, 1000, 10))) == held(gather(u[:1], t[:1])) == 6 + 3 + 36 + 18 + 1


@given(st.integers(2, 30), st.booleans(), st.integers(0, 1000))
def test_the_token_error_is_that_of_the_pairs(count, has_bias, seed):
    u, t, weight = noise(count, 5, seed=seed) + 2, noise(count, 3, seed=seed + 1), noise(3, 5, seed=seed + 2)
    bias = noise(3, seed=seed + 3) if has_bias else None
    missed = t - u @ weight.T - (bias if has_bias else 0)
    expected = missed.square().sum() / (t - t.mean(0)).square().sum()
    assert token_error(gather(u, t, [count // 2]), weight, bias) == pytest.approx(expected.item(), rel=1e-10)


def test_a_kernel_that_gives_the_tokens_has_no_error():
    u, weight, bias = noise(50, 5), noise(3, 5), noise(3)
    assert abs(token_error(gather(u, u @ weight.T + bias), weight, bias)) <= 1e-14
    assert token_error(gather(u, u @ weight.T + bias), 0 * weight, (u @ weight.T + bias).mean(0)) == pytest.approx(1)


@pytest.mark.parametrize(('count', 'tokens'), [
    (0, torch.ones(0, 2)), (7, torch.zeros(7, 2)), (7, torch.ones(7, 2)),
    (7, 0.1 * torch.ones(7, 2) + 1e-15 * noise(7, 2))])
def test_tokens_that_do_not_vary_have_no_relative_error(count, tokens):
    with pytest.raises(ValueError, match=f'{count} pairs of patches, and their tokens do not vary'):
        token_error(gather(noise(count, 4), tokens), torch.zeros(2, 4))
