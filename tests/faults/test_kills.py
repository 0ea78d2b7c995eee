"""kill -9 at random moments, and inside the writing of files: what is resumed ends as what was not interrupted."""
from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
import torch
from fault_helpers import Run, die_at, resumed_epoch
from safetensors.torch import load_file

KILLS = [pytest.param(3, id='small'), pytest.param(24, id='long', marks=pytest.mark.faults)]


def moments(kills: int, seconds: float, writes: int) -> list[tuple[str, float]]:
    """Where the kills come: by turns at a random moment, and inside the writing of one of the first ``writes`` files."""
    drawn = random.Random(0)
    return [('write', 1 + i // 2 % writes) if i % 2 else ('moment', drawn.uniform(0, seconds)) for i in range(kills)]


def killed(folder: Path, moment: tuple[str, float], tool: str, *args: object) -> tuple[bool, str]:
    """Run a tool and kill it there; returns whether it still ran, and what it printed."""
    kind, value = moment
    run = Run(folder, tool, *args, before=die_at(value) if kind == 'write' else None)
    was_killed = run.kill_after(value if kind == 'moment' else 600)
    return was_killed or kind == 'write', run.printed()


def timed(folder: Path, tool: str, *args: object) -> float:
    start = time.monotonic()
    run = Run(folder, tool, *args)
    assert run.wait() == 0, run.printed()
    return time.monotonic() - start


def stale(folder: Path) -> list[Path]:
    return list(folder.rglob('.*.tmp'))


def same_training(one: Path, two: Path, epoch: int = 3) -> bool:
    """Whether two trainings ended with the same weights, optimizer and adapter, bit for bit."""
    first, second = (torch.load(folder / f'epoch_{epoch}.pth', weights_only=False) for folder in (one, two))
    adapters = [load_file(folder / 'adapter.safetensors') for folder in (one, two)]
    states = [(checkpoint['state_dict'], checkpoint['optimizer']['state'], adapter)
              for checkpoint, adapter in zip((first, second), adapters)]
    return all(_equal(a, b) for a, b in zip(*states))


def _equal(one: object, two: object) -> bool:
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(_equal(one[key], two[key]) for key in one)
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


@pytest.mark.parametrize('kills', KILLS)
def test_a_killed_training_resumes_and_ends_bit_identical(ground, tmp_path, kills):
    reference = tmp_path / 'reference'
    seconds = timed(ground, 'train.py', 'mspe.py', '--work-dir', reference)
    for i, moment in enumerate(moments(kills, seconds, writes=9)):
        work_dir = tmp_path / f'run_{i}'
        was_killed, printed = killed(ground, moment, 'train.py', 'mspe.py', '--work-dir', work_dir)
        saved = printed.count('Saving checkpoint')
        resumed = Run(ground, 'train.py', 'mspe.py', '--work-dir', work_dir, '--resume')
        assert resumed.wait() == 0, (moment, resumed.printed())
        lost = saved - resumed_epoch(resumed.printed())
        assert lost <= 1, moment    # the checkpoint that was being written
        assert same_training(reference, work_dir), moment
        assert not stale(work_dir), moment
