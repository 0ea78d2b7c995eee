"""The report of a GPU, rehearsed on the CPU: it continues where it was killed, and its page has the stages' figures."""
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fault_helpers import Run
from python_processes import HOSTS
from tools_helpers import ROOT, tail

from mspe_mm.benchmark.gpu_page import training_table

pytestmark = pytest.mark.slow

REHEARSE = ('gpu_report.py', '--tiny', '--out-dir', 'report')
BENCHMARKS = [f'{network}-{what}' for network in ('vit', 'vitdet') for what in ('bfloat16', 'float16', 'compiled')]
BENCHMARKS += ['tuning-setr', 'tuning-vitdet']
STAGES = [*BENCHMARKS, 'camvid-training', 'camvid-tuning', 'camvid-sweep', 'camvid-budgets', 'trade-off', 'loss-scaling']


def written(folder: Path) -> dict:
    """When each finished stage was written."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob('*.json')}


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The folder of a rehearsal that was killed in the middle of a training, and then continued."""
    for name in HOSTS:
        importlib.import_module(name)    # the rehearsal and its tools are forks of this process
    folder = tmp_path_factory.mktemp('rehearsal')
    killed = Run(folder, *REHEARSE)
    while killed.process.is_alive() and not (folder / 'report/camvid-tuning').is_dir():
        time.sleep(0.02)
    assert killed.kill_after(0), killed.printed()    # with the training, which ends with it
    before = written(folder / 'report')
    assert set(before) == {*BENCHMARKS, 'camvid-training'}
    assert not (folder / 'report/performance-gpu.md').exists()
    again = Run(folder, *REHEARSE)
    assert again.wait() == 0, again.printed()
    after = written(folder / 'report')
    assert {stage: after[stage] for stage in before} == before
    for stage in STAGES:
        assert f'{stage}: {"done, in" if stage in before else "running"}' in again.printed()
    return folder / 'report'


@pytest.fixture(scope='module')
def found(report):
    """The results of all stages."""
    return {stage: json.loads((report / f'{stage}.json').read_text()) for stage in STAGES}


@pytest.fixture(scope='module')
def tables(report):
    """The rows of each table of the page, as dictionaries of texts."""
    blocks = [block.splitlines() for block in (report / 'performance-gpu.md').read_text().split('\n\n')
              if block.startswith('|')]
    cells = [[[cell.strip() for cell in line.strip('|').split('|')] for line in block] for block in blocks]
    return [[dict(zip(head, row)) for row in rows] for head, _, *rows in cells]


def test_the_page_has_the_rows_of_the_benchmarks(report, found, tables):
    measured = [table for table in tables if 'candidate' in table[0]]
    assert len(measured) == len(BENCHMARKS)
    for stage, table in zip(BENCHMARKS, measured):
        rows = found[stage]['rows']
        assert [row['candidate'] for row in table] == [row['candidate'] for row in rows]
        assert [row['images / s'] for row in table] == [f'{row["images_per_second"]:.2f}' for row in rows]
        for row, cells in zip(rows, table):
            assert float(cells['time, ms'].split()[0]) == pytest.approx(1e3 * row['seconds']['median'], rel=0.01)
    page = (report / 'performance-gpu.md').read_text()
    assert 'A rehearsal with tiny models on a CPU' in page
    assert page.count('python tools/benchmark.py ') == len(BENCHMARKS)
    assert str(report) not in page
    assert 'Not measured' not in page


def test_the_page_has_the_rows_of_the_other_stages(report, found, tables):
    trainings = next(table for table in tables if 'recipe' in table[0])
    assert [(row['stage'], row['recipe'], int(row['steps']), row['skipped']) for row in trainings] == [
        (stage, f'configs/{recipe}.py', 2, '-') for stage, recipe in (
            ('camvid-training', 'setr_camvid'), ('camvid-tuning', 'setr_mspe_5e_camvid'),
            ('camvid-budgets', 'setr_budgets_camvid'))]
    sweep = next(table for table in tables if 'kernel' in table[0])
    assert [(row['method'], row['mIoU']) for row in sweep] == [
        (row['method'], f'{row["metrics"]["mIoU"]:.2f}') for row in found['camvid-sweep']['rows']]
    assert len(sweep) == 4 * 2
    scaling = next(table for table in tables if 'first loss scale' in table[0])
    assert [(row['dtype'], int(row['skipped']), float(row['difference'])) for row in scaling] == [
        (row['dtype'], row['skipped'], float(f'{row["difference"]:.2g}')) for row in found['loss-scaling']['rows']]
    trade_off = next(table for table in tables if 'GFLOP' in table[0] and 'candidate' not in table[0])
    assert [(row['method'], row['tokens'], row['image']) for row in trade_off] == [
        ('vanilla', '2 x 2', '32 x 32'), ('vanilla', '3 x 4', '48 x 64'), ('img_resize', '2 x 2', '24 x 32'),
        ('img_resize', '3 x 4', '24 x 32'), ('mspe', '2 x 2', '24 x 32'), ('mspe', '3 x 4', '24 x 32')]
    assert [float(row['mIoU']) for row in trade_off] == [
        pytest.approx(row['metrics']['mIoU'], abs=0.005) for row in found['trade-off']['rows']]
    small, whole, enlarged, enlarged_whole, ours, ours_whole = (float(row['GFLOP']) for row in trade_off)
    assert small == enlarged < whole == enlarged_whole
    assert ours < ours_whole <= whole
    assert (report / 'performance-gpu.png').stat().st_size > 10_000


def test_skipped_steps_are_on_the_page():
    row = dict(recipe='setr_camvid', steps=2300, seconds=61.5, memory=900, skipped=3, loss_scale=8192.)
    assert '|  2300 |   61.5  |     900     |    3    |          8192         |' in training_table({'camvid-training': row})


def fails(folder, *args, **environment):
    """The sentence with which the script exits."""
    done = subprocess.run(['bash', str(ROOT / 'scripts/gpu_report.sh'), *args], cwd=folder, capture_output=True, text=True,
                          env={'PATH': '/usr/bin:/bin', 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', **environment})
    assert done.returncode == 1, tail(done)
    return done.stderr.strip().splitlines()[-1]


def test_the_script_says_what_is_missing(tmp_path):
    assert fails(tmp_path, PYTHON='no-python') == 'error: there is no no-python: set PYTHON to a Python of 3.9 or newer'
    assert 'has no wheels: give a folder of .whl files' in fails(tmp_path, WHEELS=str(tmp_path))
    (tmp_path / 'bare').write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / 'bare').chmod(0o755)
    assert 'lacks torch, numpy, ' in fails(tmp_path, PYTHON=str(tmp_path / 'bare'))


def without_gpu() -> None:
    torch.cuda.is_available = bool


def test_a_machine_without_a_gpu_is_refused(tmp_path):
    refused = Run(tmp_path, *REHEARSE[:1], before=without_gpu)
    assert refused.wait() == 1
    assert 'error: PyTorch sees no GPU' in refused.printed()
    assert not (tmp_path / 'work_dirs').exists()


def test_a_stage_names_the_stage_that_it_needs(tmp_path):
    sentence = fails(tmp_path, '--tiny', '--out-dir', 'report', '--stage', 'camvid-tuning')
    assert 'camvid-training.json does not exist: run the stage camvid-training before' in sentence
    assert 'Not measured yet: vit-bfloat16, ' in (tmp_path / 'report/performance-gpu.md').read_text()
