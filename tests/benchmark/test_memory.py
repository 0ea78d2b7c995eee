"""Peaks of steps whose need is known."""
from functools import partial

import pytest
import torch
from benchmark_helpers import MIB, broken, holding, insatiable, killed, piling_up

from mspe_mm.benchmark.memory import OutOfMemory, allocator_peak, resident_peak

SLACK = 2 * MIB    # the interpreter's own objects, and what the kernel counts in batches of pages


@pytest.mark.parametrize(('build', 'step', 'held'), [
    (partial(holding, 48 * MIB, [32 * MIB]), 32, 48),
    (partial(holding, 16 * MIB, [24 * MIB, 40 * MIB, 8 * MIB]), 40, 16),
    (partial(piling_up, [8 * MIB, 16 * MIB, 8 * MIB]), 32, 0),
    (partial(piling_up, [MIB] * 24), 24, 0),
    (partial(holding, 16 * MIB, []), 0, 16),
], ids=['one', 'the largest of three', 'the sum of three', 'many small ones', 'none'])
def test_resident_set(build, step, held):
    memory = resident_peak(build, threads=1)
    assert abs(memory['step'] - step * MIB) <= SLACK
    assert abs(memory['peak'] - (step + held) * MIB) <= SLACK


@pytest.mark.parametrize('build', [killed, insatiable])
def test_a_process_that_gets_no_memory(build):
    with pytest.raises(OutOfMemory):
        resident_peak(build, threads=1)


def test_other_errors_come_through():
    with pytest.raises(ValueError, match='this cannot be built'):
        resident_peak(broken, threads=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_allocator():
    def build():
        kept = torch.ones(48 * MIB, dtype=torch.uint8, device='cuda')
        return lambda _: torch.ones(32 * MIB, dtype=torch.uint8, device='cuda').sum() + kept[0]
    _, memory = allocator_peak(build, 'cuda')
    assert abs(memory['step'] - 32 * MIB) <= SLACK
    assert abs(memory['peak'] - 80 * MIB) <= SLACK
