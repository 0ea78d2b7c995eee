import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mspe_mm.layers.cache import DerivedTensors
from mspe_mm.layers.position import clipped_relative_positions, relative_positions, resample_positions, sinusoidal_positions


def test_own_grid_is_untouched():
    table = torch.randn(1, 197, 8)
    assert torch.equal(resample_positions(table, (14, 14), extra_tokens=1).flatten(1, 2), table[:, 1:])
    assert torch.equal(resample_positions(table[:, 1:], (7, 28), (7, 28)).flatten(1, 2), table[:, 1:])


@pytest.mark.parametrize('grid', [(64, 64), (28, 14), (5, 9)])
def test_vitdet_resamples_without_the_class_token_by_bicubic(grid):
    table = torch.randn(1, 197, 4)
    image = torch.stack([table[0, 1:, c].view(14, 14) for c in range(4)])[None]
    expected = F.interpolate(image, size=grid, mode='bicubic', align_corners=False)
    out = resample_positions(table, grid, extra_tokens=1)
    assert out.shape == (1, *grid, 4)
    for c in range(4):
        assert torch.equal(out[0, ..., c], expected[0, c])


def test_bilinear_by_hand():
    table = torch.tensor([[[0.], [1.], [2.], [3.]]])
    out = resample_positions(table, (2, 4), (2, 2), interpolation='bilinear')
    assert torch.allclose(out[0, :, :, 0], torch.tensor([[0, .25, .75, 1], [2, 2.25, 2.75, 3]]))


def test_table_that_is_no_grid():
    with pytest.raises(ValueError, match=r'a table of 197 positions is not a 14 x 14 grid: .*extra_tokens'):
        resample_positions(torch.zeros(1, 197, 2), (14, 14))


@pytest.mark.parametrize(('n', 'length'), [(5, 5), (5, 8), (6, 3), (4, 1)])
def test_relative_positions(n, length):
    table = torch.randn(2 * n - 1, 3, dtype=torch.float64)
    # Linear resampling with pixel centres at the half integers, values beyond the outer centres held.
    centres = (np.arange(2 * length - 1) + .5) * (2 * n - 1) / (2 * length - 1) - .5
    resampled = np.stack([np.interp(centres, np.arange(2 * n - 1), table[:, c]) for c in range(3)], axis=1)
    out = relative_positions(table, length)
    assert out.shape == (length, length, 3)
    for i in range(length):
        for j in range(length):
            np.testing.assert_allclose(out[i, j], resampled[i - j + length - 1], atol=1e-12)


class TestDerivedTensors:

    def setup_method(self):
        self.parameter, self.calls, self.cache = torch.nn.Parameter(torch.ones(2)), 0, DerivedTensors(limit=2)

    def get(self, key='a'):

        def compute():
            self.calls += 1
            return self.parameter * 2

        return self.cache.get(key, [self.parameter], compute)

    def test_computed_once_without_gradients(self):
        with torch.inference_mode():
            first = self.get()
        with torch.no_grad():
            assert self.get() is first
        assert self.calls == 1
        assert not first.is_inference()

    def test_frozen_parameters_are_kept_where_gradients_are_on(self):
        self.parameter.requires_grad_(False)
        assert self.get() is self.get()

    def test_gradient_is_never_cut(self):
        with torch.no_grad():
            self.get()
        self.get().sum().backward()
        assert self.parameter.grad.tolist() == [2, 2]

    @torch.no_grad()
    def test_sees_changes(self):
        self.get()
        self.parameter.add_(1)
        assert self.get().tolist() == [4, 4]
        self.parameter.data.fill_(5)    # no new version of the tensor
        assert self.get().tolist() == [10, 10]

    @torch.no_grad()
    def test_sees_a_change_of_dtype_in_place(self):
        self.get()
        self.parameter.data = self.parameter.data.double()    # as module.double() does
        assert self.get().dtype == torch.float64

    @torch.no_grad()
    def test_is_bounded_and_starts_empty_in_copies(self):
        for key in 'abc':
            self.get(key)
        assert len(self.cache) == 1
        assert len(copy.deepcopy(self.cache)) == len(pickle.loads(pickle.dumps(self.cache))) == 0
        self.cache.clear()
        assert len(self.cache) == 0


@pytest.mark.parametrize(('length', 'dim'), [(1, 1), (7, 6), (50, 5), (1600, 8)])
def test_sinusoids_are_the_reports_formula(length, dim):
    ours = sinusoidal_positions(length, dim)
    assert ours.dtype == torch.float64
    expected = [[(math.sin if i % 2 == 0 else math.cos)(pos / 10_000**(i / dim)) for i in range(dim)]
                for pos in range(length)]
    assert np.abs(ours.numpy() - np.array(expected)).max() < 1e-10


@pytest.mark.parametrize(('longest', 'length'), [(1, 3), (4, 4), (4, 2), (3, 8)])
def test_far_offsets_are_the_farthest_of_the_table(longest, length):
    table = torch.randn(2 * longest - 1, 3, dtype=torch.float64)
    gathered = clipped_relative_positions(table, length)
    for i in range(length):
        for j in range(length):
            offset = max(1 - longest, min(longest - 1, i - j))
            assert torch.equal(gathered[i, j], table[offset + longest - 1])


def test_within_the_table_clipping_changes_nothing():
    table = torch.randn(9, 4)
    assert torch.equal(clipped_relative_positions(table, 5), relative_positions(table, 5))
