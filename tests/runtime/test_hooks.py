"""Hooks that keep a work dir sound."""
import io
import os
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OneCycleLR
from torch import nn

from mspe_mm.errors import InputError
from mspe_mm.runtime.hooks import AdapterHook, LossScaleHook, SafeCheckpointHook, SoundTrainingHook, without_functions


def runner(folder, **more):
    logger = SimpleNamespace(info=lambda text: None)
    return SimpleNamespace(work_dir=str(folder), iter=6, epoch=0, model=nn.Linear(2, 2), logger=logger,
                           message_hub=MessageHub('test_hooks'), **more)


@pytest.mark.parametrize('loss', [float('nan'), float('inf'), -float('inf'), torch.tensor(float('nan'), requires_grad=True)])
def test_sound_training_hook_ends_a_training_whose_loss_is_not_finite(tmp_path, loss):
    with pytest.raises(InputError, match=r'the loss of iteration 7 is .*: training has diverged; lower the learning rate'):
        SoundTrainingHook().after_train_iter(runner(tmp_path), 0, outputs=dict(loss=loss))


@pytest.mark.parametrize('outputs', [None, {}, dict(loss=1.), dict(loss=torch.tensor(2.)), dict(acc=float('nan'))])
def test_sound_training_hook_lets_a_sound_loss_pass(tmp_path, outputs):
    assert SoundTrainingHook().after_train_iter(runner(tmp_path), 0, outputs=outputs) is None


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_sound_training_hook_lets_no_checkpoint_have_weights_that_are_not_finite(tmp_path, value):
    state_dict = dict(count=torch.tensor(3), weight=torch.tensor([1., value]))
    with pytest.raises(InputError, match='weight has values that are not finite after iteration 7'):
        SoundTrainingHook().before_save_checkpoint(runner(tmp_path), dict(state_dict=state_dict))


def test_sound_training_hook_removes_what_killed_processes_left(tmp_path):
    stale, running = (tmp_path / f'.epoch_9.pth.{process}.tmp' for process in (2**22 + 1, os.getpid()))
    stale.touch()
    running.touch()
    SoundTrainingHook().before_train(runner(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [running.name]


class Saver(SimpleNamespace):
    """A runner whose checkpoints are small, and that notes what the folder holds at each step."""

    def save_checkpoint(self, out_dir, name, *args, **kwargs):
        self.seen.append(sorted(os.listdir(out_dir)))
        with open(os.path.join(out_dir, name), 'w') as file:
            file.write(name)


def test_safe_checkpoint_hook_removes_the_oldest_last(tmp_path, monkeypatch):
    made = Saver(**vars(runner(tmp_path)), seen=[])
    hook = SafeCheckpointHook(interval=1, max_keep_ckpts=1)
    hook.before_train(made)
    replace = os.replace
    monkeypatch.setattr(os, 'replace', lambda *paths: (made.seen.append(sorted(
        name for name in os.listdir(tmp_path) if name.endswith('.pth'))), replace(*paths)))
    for epoch in (1, 2):
        hook._save_checkpoint_with_step(made, epoch, {})
    assert made.seen == [[], ['epoch_1.pth'], ['epoch_1.pth', 'last_checkpoint'], ['epoch_1.pth', 'epoch_2.pth']]
    assert sorted(os.listdir(tmp_path)) == ['epoch_2.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize(('settings', 'backend'), [
    ({}, dict(backend='mspe_safe')), (dict(backend_args=dict(backend='local')), dict(backend='local')),
    (dict(out_dir='s3://bucket'), None)])
def test_safe_checkpoint_hook_writes_local_files_whole(settings, backend):
    assert SafeCheckpointHook(**settings).backend_args == backend


def test_adapter_hook_keeps_the_adapter_of_another_training_once(tmp_path):
    path = tmp_path / 'adapter.safetensors'
    path.write_bytes(b'earlier')
    os.utime(path, (0, 0))
    hook = AdapterHook()
    hook._keep(path, runner(tmp_path))
    (kept, ) = tmp_path.iterdir()
    assert kept.name == time.strftime('adapter_%Y%m%d_%H%M%S.safetensors', time.localtime(0))
    assert kept.read_bytes() == b'earlier'


@pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='this PyTorch scales losses on a GPU only')
def test_loss_scale_hook_says_which_steps_an_overflow_skipped(tmp_path):
    weight = nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.5), torch.amp.GradScaler('cpu', init_scale=4.)
    training, hook = runner(tmp_path, optim_wrapper=SimpleNamespace(loss_scaler=scaler)), LossScaleHook()
    training.message_hub = MessageHub('test_loss_scale')
    for loss in (weight * 1, weight * float('inf'), weight * 1):
        hook.before_train_iter(training, 0)
        optimizer.zero_grad()
        scaler.scale(loss.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        hook.after_train_iter(training, 0)
    logged = {name: value.data[0].tolist() for name, value in training.message_hub.log_scalars.items()}
    assert logged == {'train/loss_scale': [4., 2., 2.], 'train/skipped': [0, 1, 0]}
    assert weight.item() == 0    # two steps of 0.5 from 1


def test_loss_scale_hook_logs_nothing_in_full_precision(tmp_path):
    training, hook = runner(tmp_path, optim_wrapper=SimpleNamespace()), LossScaleHook()
    training.message_hub = MessageHub('test_full_precision')
    hook.before_train_iter(training, 0)
    hook.after_train_iter(training, 0)
    assert not training.message_hub.log_scalars


def test_the_state_of_a_one_cycle_schedule_is_read_without_running_code_and_goes_on():
    def schedule():
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=1e-3)
        return optimizer, OneCycleLR(optimizer, eta_max=1e-3, total_steps=10)

    whole, stopped, resumed = schedule(), schedule(), schedule()
    for optimizer, scheduler in [whole] * 7 + [stopped] * 4:
        optimizer.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save(dict(optimizer=stopped[0].state_dict(), schedulers=without_functions([stopped[1].state_dict()])), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed[0].load_state_dict(state['optimizer'])
    resumed[1].load_state_dict(state['schedulers'][0])
    for _ in range(3):
        resumed[0].step()
        resumed[1].step()
    assert resumed[0].param_groups[0]['lr'] == whole[0].param_groups[0]['lr']
    assert without_functions(dict(one=[dict(a=1, f=print)])) == dict(one=[dict(a=1)])
