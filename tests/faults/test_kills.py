"""kill -9 at random moments, and inside the writing of files: what is resumed ends as what was not interrupted."""
from __future__ import annotations

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from fault_helpers import Run, die_at, equal, resumed_epoch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

KILLS = [pytest.param(3, id='small'), pytest.param(24, id='long', marks=pytest.mark.faults)]


def moments(kills: int, seconds: float, writes: int) -> list[tuple[str, float]]:
    """Where the kills come: by turns at a random moment, and inside the writing of one of the first ``writes`` files."""
    drawn = random.Random(0)
    return [('write', 1 + i // 2 % writes) if i % 2 else ('moment', drawn.uniform(0, seconds)) for i in range(kills)]


def killed(folder: Path, moment: tuple[str, float], tool: str, *args: object) -> str:
    """Run a tool and kill it there; returns what it printed."""
    kind, value = moment
    run = Run(folder, tool, *args, before=partial(die_at, value) if kind == 'write' else None)
    run.kill_after(value if kind == 'moment' else 600)
    return run.printed()


def timed(folder: Path, tool: str, *args: object) -> float:
    start = time.monotonic()
    run = Run(folder, tool, *args)
    assert run.wait() == 0, run.printed()
    return time.monotonic() - start


def stale(folder: Path) -> list[Path]:
    return list(folder.rglob('.*.tmp'))


def trained(work_dir: Path) -> tuple:
    """The weights, optimizer and adapter that a training ended with."""
    checkpoint = torch.load(work_dir / 'epoch_3.pth', weights_only=False)
    return checkpoint['state_dict'], checkpoint['optimizer'], load_file(work_dir / 'adapter.safetensors')


@pytest.mark.parametrize('kills', KILLS)
def test_a_killed_training_resumes_and_ends_bit_identical(ground, tmp_path, kills):
    reference = tmp_path / 'reference'
    seconds = timed(ground, 'train.py', 'mspe.py', '--work-dir', reference)
    for i, moment in enumerate(moments(kills, seconds, writes=9)):
        work_dir = tmp_path / f'run_{i}'
        printed = killed(ground, moment, 'train.py', 'mspe.py', '--work-dir', work_dir)
        saved = printed.count('Saving checkpoint')
        resumed = Run(ground, 'train.py', 'mspe.py', '--work-dir', work_dir, '--resume')
        assert resumed.wait() == 0, (moment, resumed.printed())
        lost = saved - resumed_epoch(resumed.printed())
        assert lost <= 1, moment    # the checkpoint that was being written
        assert equal(trained(reference), trained(work_dir)), moment
        assert not stale(work_dir), moment


SWEEP = ('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', 8, 16,
         '--methods', 'flexivit', 'mspe')


def rows(folder: Path) -> list[dict]:
    return [{key: value for key, value in row.items() if key != 'images_per_second'}
            for row in json.loads((folder / 'results.json').read_text())['rows']]


@pytest.mark.parametrize('kills', KILLS)
def test_a_killed_sweep_resumes_with_its_rows_and_ends_the_same(ground, tmp_path, kills):
    seconds = timed(ground, *SWEEP, '--out-dir', tmp_path / 'reference')
    for i, moment in enumerate(moments(kills, seconds, writes=4)):
        out = tmp_path / f'out_{i}'
        killed(ground, moment, *SWEEP, '--out-dir', out)
        before = rows(out) if (out / 'results.json').is_file() else []
        resumed = Run(ground, *SWEEP, '--out-dir', out, '--resume')
        assert resumed.wait() == 0, (moment, resumed.printed())
        assert rows(out)[:len(before)] == before, moment
        assert rows(out) == rows(tmp_path / 'reference'), moment
        assert not stale(out), moment


@pytest.mark.parametrize('kills', KILLS)
def test_a_killed_calibration_leaves_nothing_half_written_and_runs_again(ground, tmp_path, kills):
    command = ('calibrate.py', 'mspe.py', 'base.pth', '--images', 'data/images/train', '--out')
    seconds = timed(ground, *command, tmp_path / 'reference.safetensors')
    reference = load_file(tmp_path / 'reference.safetensors')
    for i, moment in enumerate(moments(kills, seconds, writes=1)):
        out = tmp_path / f'run_{i}/adapter.safetensors'
        killed(ground, moment, *command, out)
        if out.is_file():    # killed just after it was written
            assert equal(load_file(out), reference), moment
        again = Run(ground, *command, out)
        assert again.wait() == 0, (moment, again.printed())
        assert equal(load_file(out), reference), moment
        assert not stale(out.parent), moment


@pytest.mark.parametrize('kills', [pytest.param(1, id='small'), pytest.param(20, id='long', marks=pytest.mark.faults)])
def test_a_killed_ablation_goes_on_and_ends_the_same(ground, tmp_path, kills):
    def found(folder: Path) -> list[dict]:
        result = json.loads((folder / 'ablation.json').read_text())['rows']
        return [{key: value for key, value in row.items() if key != 'images_per_second'} for row in result]

    command = ('ablate.py', 'plan.py', '--variants', 'default', '--seeds', 0, '--out-dir')
    seconds = timed(ground, *command, tmp_path / 'reference')
    for i, moment in enumerate(moments(kills, seconds, writes=6)):
        out = tmp_path / f'out_{i}'
        killed(ground, moment, *command, out)
        again = Run(ground, *command, out)
        assert again.wait() == 0, (moment, again.printed())
        assert found(out) == found(tmp_path / 'reference'), moment
        adapters = [load_file(folder / 'default/seed_0/adapter.safetensors') for folder in (out, tmp_path / 'reference')]
        assert equal(*adapters), moment


def signal_at_writing(number: int) -> None:
    replace = os.replace

    def interrupted(*args: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)    # until it arrives
        replace(*args)
    os.replace = interrupted


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('tool', ['train', 'eval_multiscale', 'calibrate'])
def test_a_signal_leaves_nothing_half_written_and_no_process(ground, tmp_path, tool, number):
    """The signal comes inside the first writing of a file, with loading processes at work."""
    workers = ['--cfg-options', 'train_dataloader.num_workers=2', 'test_dataloader.num_workers=2']
    commands = dict(
        train=('train.py', 'mspe.py', '--work-dir', tmp_path / 'out', *workers),
        eval_multiscale=(*SWEEP, '--out-dir', tmp_path / 'out', *workers),
        calibrate=('calibrate.py', 'mspe.py', 'base.pth', '--images', 'data/images/train', '--out',
                   tmp_path / 'out/adapter.safetensors'))
    run = Run(ground, *commands[tool], before=partial(signal_at_writing, number))
    code = run.wait()
    assert code == {signal.SIGTERM: 143, signal.SIGINT: 1}[number], run.printed()
    assert 'Traceback' not in run.printed()
    assert run.is_alone()
    results = ('*.pth', '*.safetensors', '*.md', 'results.json', 'last_checkpoint', '.*.tmp')
    assert [path for pattern in results for path in tmp_path.rglob(pattern)] == []
