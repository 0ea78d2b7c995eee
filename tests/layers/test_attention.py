"""Attention against the formula, written out pair by pair."""
import itertools
import math

import pytest
import torch

from mspe_mm.layers.attention import ATTENTIONS, _attend_with_codes, attend, relative_terms
from mspe_mm.layers.position import relative_positions
from mspe_mm.layers.windows import from_windows, to_windows

GRIDS = [(3, 3), (2, 5), (4, 1)]


def by_the_formula(q, k, v, grid, table_h=None, table_w=None):
    """softmax over keys of q.k / sqrt(d) + q.Rh[y - y'] + q.Rw[x - x'], times v: tables of 2 n - 1 offsets for n tokens."""
    cells = list(itertools.product(range(grid[0]), range(grid[1])))
    out = torch.zeros_like(q)
    for b, head, (i, (y, x)) in itertools.product(range(q.shape[0]), range(q.shape[1]), enumerate(cells)):
        query = q[b, head, i]
        logits = []
        for j, (y2, x2) in enumerate(cells):
            logit = query @ k[b, head, j] / math.sqrt(q.shape[-1])
            if table_h is not None:
                logit = logit + query @ table_h[y - y2 + grid[0] - 1] + query @ table_w[x - x2 + grid[1] - 1]
            logits.append(logit)
        out[b, head, i] = torch.stack(logits).softmax(0) @ v[b, head]
    return out


def inputs(grid, dtype=torch.float64, d=6):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, grid[0] * grid[1], d, generator=generator, dtype=torch.float64).to(dtype).unbind(0)
    tables = [torch.randn(2 * n - 1, d, generator=generator, dtype=torch.float64).to(dtype) for n in grid]
    return q, k, v, tables


def gathered(tables, grid):
    return tuple(map(relative_positions, tables, grid))


@pytest.mark.parametrize('attention', ATTENTIONS)
@pytest.mark.parametrize('grid', GRIDS)
def test_equals_the_formula(grid, attention):
    q, k, v, tables = inputs(grid)
    expected = by_the_formula(q, k, v, grid, *tables)
    torch.testing.assert_close(attend(q, k, v, gathered(tables, grid), attention), expected, rtol=0, atol=1e-12)
    assert (attend(q, k, v, None, attention) - by_the_formula(q, k, v, grid)).abs().max() < 1e-12
    assert (attend(q, k, v, None, attention) - expected).abs().max() > 1e-2    # the tables do count


@pytest.mark.parametrize('grid', GRIDS)
def test_appended_codes_are_exact_with_gradients(grid):
    q, k, v, tables = inputs(grid)
    leaves = [t.requires_grad_() for t in (q, k, v, *tables)]
    rows, columns = gathered(tables, grid)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(1), dtype=q.dtype)
    outs, gradients = [], []
    for out in (attend(q, k, v, (rows, columns), 'naive'), attend(q, k, v, (rows, columns), 'fused'),
                _attend_with_codes(q, k, v, *relative_terms(q, rows, columns))):
        outs.append(out)
        gradients.append(torch.autograd.grad((out * weight).sum(), leaves, retain_graph=True))
    for out, gradient in zip(outs[1:], gradients[1:]):
        torch.testing.assert_close(out, outs[0], rtol=0, atol=1e-9)
        for ours, naive in zip(gradient, gradients[0]):
            torch.testing.assert_close(ours, naive, rtol=0, atol=1e-9)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_low_precision(dtype, tolerance):
    grid = (6, 7)
    q, k, v, tables = inputs(grid, dtype, d=8)
    tables = [table * 0.25 for table in tables]    # logits of the size that trained tables give
    exact = attend(*(t.double() for t in (q, k, v)), gathered([t.double() for t in tables], grid), 'naive')
    relative = gathered(tables, grid)
    for out in (attend(q, k, v, relative, 'naive'), attend(q, k, v, relative, 'fused'),
                _attend_with_codes(q, k, v, *relative_terms(q, *relative))):
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance)


def test_head_dimension_of_the_codes_is_a_multiple_of_8(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention',
                        lambda q, k, v, **kwargs: seen.append((q.shape, k.shape)) or v)
    q, k, v, tables = inputs((3, 4), d=16)
    _attend_with_codes(q, k, v, *relative_terms(q, *gathered(tables, (3, 4))))
    assert seen == [((2, 3, 12, 16 + 8), (2, 3, 12, 16 + 8))]


def test_many_tokens_go_in_slices():
    grid = (36, 33)
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, grid[0] * grid[1], 4, generator=generator, dtype=torch.float64).unbind(0)
    relative = gathered([torch.randn(2 * n - 1, 4, generator=generator, dtype=torch.float64) for n in grid], grid)
    torch.testing.assert_close(attend(q, k, v, relative), attend(q, k, v, relative, 'naive'), rtol=0, atol=1e-12)


@pytest.mark.parametrize('with_positions', [True, False])
def test_dropped_keys(with_positions):
    """The same random numbers drop the same keys on every path; of the weights that stay, the sum is 1 on average."""
    q, k, v, tables = inputs((6, 7))
    relative = gathered(tables, (6, 7)) if with_positions else None
    paths = [lambda: attend(q, k, v, relative, 'naive', 0.25), lambda: attend(q, k, v, relative, 'fused', 0.25)]
    if with_positions:
        paths.append(lambda: _attend_with_codes(q, k, v, *relative_terms(q, *relative), 0.25))
    outs = []
    for path in paths:
        torch.manual_seed(0)
        outs.append(path())
        torch.testing.assert_close(outs[-1], outs[0], rtol=0, atol=1e-12)
    assert (outs[0] - attend(q, k, v, relative)).abs().max() > 0.1
    sums = attend(q, k, torch.ones_like(v), relative, 'fused', 0.25)
    assert abs(sums[..., 0].mean() - 1) < 4 * sums[..., 0].std() / sums[..., 0].numel()**0.5


def test_unknown_attention():
    q, k, v, _ = inputs((2, 2))
    with pytest.raises(ValueError, match="unknown attention 'flash': choose one of fused, naive"):
        attend(q, k, v, attention='flash')


@pytest.mark.parametrize(('grid', 'size'), [((6, 6), 3), ((5, 7), 3), ((2, 2), 4)])
def test_windows(grid, size):
    x = torch.arange(1., 1 + 2 * grid[0] * grid[1] * 2).view(2, *grid, 2)
    windows = to_windows(x, size)
    columns = -(-grid[1] // size)
    assert windows.shape == (2 * -(-grid[0] // size) * columns, size, size, 2)
    for y, x_ in itertools.product(range(grid[0]), range(grid[1])):
        window = (y // size) * columns + x_ // size
        assert torch.equal(windows[window, y % size, x_ % size], x[0, y, x_])
    assert windows.sum() == x.sum()    # all else is zeros
    assert torch.equal(from_windows(windows, grid), x)
