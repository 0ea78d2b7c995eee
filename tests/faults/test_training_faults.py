"""Trainings that are resumed, that diverge, that are repeated, spread over processes, or find no room."""
from __future__ import annotations

import json
import resource
import socket
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from fault_helpers import Run, equal
from safetensors.torch import load_file
from webdataset import TarWriter

pytestmark = pytest.mark.slow

ITERATIONS = '''
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=8, val_interval=2)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=-1))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)]
custom_hooks = [dict(type='AdapterHook', by_epoch=False, interval=2)]
log_processor = dict(by_epoch=False)
'''
# By which the sampler is advanced on a resume: its own skip, or step by step.
SAMPLERS = {'infinite': "train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))\n", 'default': ''}
NO_VALIDATION = ('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None')


def train(folder: Path, config: str, work_dir: Path, *args: object, before: Callable | None = None, code: int = 0) -> str:
    """What a training prints."""
    run = Run(folder, 'train.py', config, '--work-dir', work_dir, *args, before=before)
    assert run.wait() == code, run.printed()
    return run.printed()


def final(work_dir: Path, name: str) -> tuple:
    checkpoint = torch.load(work_dir / name, weights_only=False)
    return checkpoint['state_dict'], checkpoint['optimizer'], load_file(work_dir / 'adapter.safetensors')


LONG = pytest.mark.faults


@pytest.mark.parametrize(('workers', 'seed'), [pytest.param(0, 0, marks=LONG), pytest.param(2, 0, marks=LONG),
                                               pytest.param(0, None, marks=LONG), (2, None)])
def test_a_resumed_training_by_epochs_is_bit_identical(ground, tmp_path, workers, seed):
    options = ['--cfg-options', f'train_dataloader.num_workers={workers}', f'randomness.seed={seed}']
    train(ground, 'mspe.py', tmp_path / 'whole', *options, 'default_hooks.checkpoint.max_keep_ckpts=-1')
    train(ground, 'mspe.py', tmp_path / 'again', '--resume', tmp_path / 'whole/epoch_1.pth', *options)
    assert equal(final(tmp_path / 'whole', 'epoch_3.pth'), final(tmp_path / 'again', 'epoch_3.pth'))


@pytest.mark.parametrize(('workers', 'sampler'), [
    pytest.param(0, 'infinite', marks=LONG), (2, 'infinite'), pytest.param(0, 'default', marks=LONG),
    pytest.param(2, 'default', marks=LONG)])
def test_a_resumed_training_by_iterations_is_bit_identical(ground, tmp_path, workers, sampler):
    more = ITERATIONS + SAMPLERS[sampler]
    (ground / 'iterations.py').write_text(f"_base_ = './mspe.py'\n{more}")
    options = ['--cfg-options', f'train_dataloader.num_workers={workers}']
    train(ground, 'iterations.py', tmp_path / 'whole', *options)
    train(ground, 'iterations.py', tmp_path / 'again', '--resume', tmp_path / 'whole/iter_4.pth', *options)
    assert equal(final(tmp_path / 'whole', 'iter_8.pth'), final(tmp_path / 'again', 'iter_8.pth'))


UNLABELLED = """
_base_ = './mspe.py'
model = dict(tuning=dict(objective='distill'))
train_dataloader = dict(dataset=dict(
    _delete_=True, type='ImageFolder', data_root='shards/{0..2}.tar',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]))
"""


@pytest.mark.parametrize(('source', 'workers'), [('folder', 2), ('tars', 0), pytest.param('tars', 2, marks=LONG)])
def test_a_training_resumed_in_the_middle_of_an_epoch_is_bit_identical(ground, tmp_path, source, workers):
    config = 'mspe.py'
    if source == 'tars':
        config = 'tars.py'
        (ground / config).write_text(UNLABELLED)
        (ground / 'shards').mkdir(exist_ok=True)
        images = sorted((ground / 'data/images/train').iterdir())
        for shard in range(3):
            with TarWriter(str(ground / f'shards/{shard}.tar')) as writer:
                for image in images[shard::3]:
                    writer.write(dict(__key__=image.stem, png=image.read_bytes()))
    options = ['--cfg-options', 'default_hooks.checkpoint.by_epoch=False', 'default_hooks.checkpoint.max_keep_ckpts=-1',
               f'train_dataloader.num_workers={workers}', *NO_VALIDATION]
    train(ground, config, tmp_path / 'whole', *options)
    again = train(ground, config, tmp_path / 'again', '--resume', tmp_path / 'whole/iter_4.pth', *options)    # of 3 an epoch
    assert 'Epoch(train) [2][3/3]' in again
    assert not (tmp_path / 'again/iter_10.pth').exists()
    assert equal(final(tmp_path / 'whole', 'iter_9.pth'), final(tmp_path / 'again', 'iter_9.pth'))


def test_validation_and_loading_processes_change_no_training(ground, tmp_path):
    train(ground, 'mspe.py', tmp_path / 'one')
    train(ground, 'mspe.py', tmp_path / 'other', '--cfg-options', 'train_dataloader.num_workers=2', *NO_VALIDATION)
    assert equal(final(tmp_path / 'one', 'epoch_3.pth'), final(tmp_path / 'other', 'epoch_3.pth'))


@pytest.mark.parametrize('note', ['', 'gone/epoch_3.pth', None])
def test_resume_finds_the_newest_checkpoint_without_last_checkpoint(ground, tmp_path, note):
    train(ground, 'mspe.py', tmp_path / 'out', '--cfg-options', 'train_cfg.max_epochs=2')
    (tmp_path / 'out/last_checkpoint').unlink()
    if note is not None:
        (tmp_path / 'out/last_checkpoint').write_text(note)
    assert 'resumed epoch: 2' in train(ground, 'mspe.py', tmp_path / 'out', '--resume')


def test_resume_passes_over_a_truncated_checkpoint(ground, tmp_path):
    train(ground, 'mspe.py', tmp_path / 'out', '--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=2')
    path = tmp_path / 'out/epoch_3.pth'
    path.write_bytes(path.read_bytes()[:1000])
    printed = train(ground, 'mspe.py', tmp_path / 'out', '--resume')
    assert 'resumed epoch: 2' in printed
    assert 'epoch_3.pth cannot be read' in printed


def test_resume_without_any_readable_checkpoint_is_refused(ground, tmp_path):
    train(ground, 'mspe.py', tmp_path / 'out', '--cfg-options', 'train_cfg.max_epochs=1')
    (tmp_path / 'out/epoch_1.pth').unlink()
    printed = train(ground, 'mspe.py', tmp_path / 'out', '--resume', code=1)
    assert 'has no complete checkpoint to resume' in printed.splitlines()[-1]


def diverge() -> None:
    """Give the training a learning rate that no kernel survives."""
    step = torch.optim.SGD.step

    def far_too_far(self: torch.optim.SGD, *args: object) -> None:
        for group in self.param_groups:
            group['lr'] = 1e20
        step(self, *args)
    torch.optim.SGD.step = far_too_far


def test_a_diverged_training_ends_with_a_sentence_and_the_last_good_files(ground, tmp_path):
    out = tmp_path / 'out'
    train(ground, 'mspe.py', out, '--cfg-options', 'train_cfg.max_epochs=1')
    good = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in ('.pth', '.safetensors')}
    printed = train(ground, 'mspe.py', out, '--resume', before=diverge, code=1)
    assert 'training has diverged' in printed.splitlines()[-1]
    assert 'Traceback' not in printed
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in ('.pth', '.safetensors')} == good


def test_an_adapter_that_has_diverged_is_never_written(ground, tmp_path):
    options = ('--cfg-options', 'optim_wrapper.optimizer.lr=1e20', 'param_scheduler=[]', 'train_cfg.max_epochs=1',
               'train_dataloader.batch_size=12', *NO_VALIDATION)    # one step: its loss is finite, its result is not
    printed = train(ground, 'mspe.py', tmp_path / 'out', *options, code=1)
    assert printed.splitlines()[-1].startswith('error: ')
    assert not list((tmp_path / 'out').glob('*.pth')) + list((tmp_path / 'out').glob('*.safetensors'))


def test_a_new_training_keeps_the_adapter_of_the_one_before(ground, tmp_path):
    first, options = tmp_path / 'out/adapter.safetensors', ['--cfg-options', 'train_cfg.max_epochs=1']
    train(ground, 'mspe.py', tmp_path / 'out', *options)
    before = first.read_bytes()
    printed = train(ground, 'mspe.py', tmp_path / 'out', *options, 'randomness.seed=1')
    (kept, ) = first.parent.glob('adapter_*.safetensors')
    assert kept.read_bytes() == before != first.read_bytes()
    assert f'is kept as {kept.name}' in printed
    train(ground, 'mspe.py', tmp_path / 'out', '--resume')    # of the same training: replaced
    assert list(first.parent.glob('adapter_*.safetensors')) == [kept]


def in_two_processes(folder: Path, *command: object) -> None:
    """Run a tool as torchrun would, with gloo."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    runs = [Run(folder, *command, '--launcher', 'pytorch', log=folder / f'rank_{rank}.txt', RANK=str(rank),
                LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)) for rank in range(2)]
    codes = [run.wait() for run in runs]
    assert codes == [0, 0], [run.printed()[-2000:] for run in runs]


def test_two_processes_with_the_same_global_batch_tune_the_same_adapter(ground, tmp_path):
    train(ground, 'mspe.py', tmp_path / 'one')
    in_two_processes(ground, 'train.py', 'mspe.py', '--work-dir', tmp_path / 'two', '--cfg-options',
                     'train_dataloader.batch_size=2', 'train_dataloader.num_workers=1')
    one, two = (load_file(tmp_path / name / 'adapter.safetensors') for name in ('one', 'two'))
    difference = max((one[name] - two[name]).abs().max() for name in one)
    print(f'largest difference of a kernel: {difference:.1e}')
    assert difference < 1e-6


def test_two_processes_sweep_the_same_table(ground, tmp_path):
    command = ('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', 8, 16,
               '--methods', 'flexivit', 'mspe', '--out-dir')
    assert Run(ground, *command, tmp_path / 'one').wait() == 0
    in_two_processes(ground, *command, tmp_path / 'two')
    one, two = (json.loads((tmp_path / name / 'results.json').read_text())['rows'] for name in ('one', 'two'))
    assert [row['metrics'] for row in one] == [row['metrics'] for row in two]


COMMANDS = dict(
    train=lambda out: ('train.py', 'mspe.py', '--work-dir', out),
    eval_multiscale=lambda out: ('eval_multiscale.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors',
                                 '--resolutions', 8, '--methods', 'mspe', '--out-dir', out),
    calibrate=lambda out: ('calibrate.py', 'mspe.py', 'base.pth', '--images', 'data/images/train', '--out',
                           out / 'adapter.safetensors'),
    merge_adapter=lambda out: ('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--out',
                               out / 'merged.pth'))


def refused(folder: Path, command: tuple, before: Callable[[], None] | None = None) -> str:
    """The sentence of a tool that is refused."""
    run = Run(folder, *command, before=before)
    assert run.wait() == 1, run.printed()
    assert 'Traceback' not in run.printed()
    assert run.printed().splitlines()[-1].startswith('error: ')
    return run.printed().splitlines()[-1]


@pytest.mark.parametrize('tool', COMMANDS)
def test_a_disk_that_is_full_leaves_the_files_before_and_a_sentence(ground, tmp_path, tool):
    out = tmp_path / 'out'
    assert Run(ground, *COMMANDS[tool](out)).wait() == 0
    result = dict(train='epoch_3.pth', eval_multiscale='results.json', merge_adapter='merged.pth').get(
        tool, 'adapter.safetensors')
    before = (out / result).read_bytes()
    room = len(before) // 2
    sentence = refused(ground, COMMANDS[tool](out), partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, room)))
    assert 'File too large while writing' in sentence
    assert (out / result).read_bytes() == before
    assert not list(out.rglob('.*.tmp'))


@pytest.mark.parametrize('tool', COMMANDS)
def test_a_folder_that_is_read_only_is_named(ground, tmp_path, tool):
    """Permissions do not bind root: a read-only mount does, and where none can be made a folder below a file."""
    folder = tmp_path / 'mount'
    folder.mkdir()
    mounted = not subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder], capture_output=True).returncode
    if not mounted:
        folder.rmdir()
        folder.write_text('a file')
    try:
        sentence = refused(ground, COMMANDS[tool](folder / 'out'))
    finally:
        if mounted:
            subprocess.run(['umount', folder], check=True)
    assert str(folder) in sentence
