"""Broken checkpoints and adapters, generated: each is refused in one sentence, and nothing is written."""
from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fault_helpers import Run
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tools_helpers import World


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path, )


class Sneaky:
    """Asks for an attribute from which code can be reached."""

    def __reduce__(self) -> tuple:
        return getattr, (argparse.Namespace, '__init__')


class Foreign:
    """A class that reading checkpoints has nothing to do with."""


def saved(content: Callable[[dict, Path], object], **settings: object) -> Callable[[Path, Path], None]:
    """Writes what ``content`` makes of a good checkpoint."""
    def write(good: Path, bad: Path) -> None:
        torch.save(content(torch.load(good, weights_only=False), bad), bad, **settings)
    return write


def raw(content: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    return lambda good, bad: bad.write_bytes(content(good.read_bytes())) and None


def with_bits_flipped(data: bytes) -> bytes:
    """Damage to the part of a file that says what is where."""
    changed, drawn = bytearray(data), random.Random(0)
    for _ in range(200):
        changed[-1 - drawn.randrange(2000)] ^= 255
    return bytes(changed)


def renamed(change: Callable[[str], str]) -> Callable[[dict, Path], dict]:
    return lambda good, _: dict(state_dict={change(name): value for name, value in good['state_dict'].items()})


def valued(change: Callable[[torch.Tensor], object]) -> Callable[[dict, Path], dict]:
    return lambda good, _: dict(state_dict={name: change(value) for name, value in good['state_dict'].items()})


CHECKPOINTS = {
    'a list': saved(lambda good, _: [good['state_dict']]),
    'a tuple': saved(lambda good, _: (1, 2)),
    'a string': saved(lambda good, _: 'checkpoint'),
    'a number': saved(lambda good, _: 3),
    'None': saved(lambda good, _: None),
    'a tensor': saved(lambda good, _: torch.zeros(3)),
    'an array': saved(lambda good, _: np.zeros(3)),
    'an empty dict': saved(lambda good, _: {}),
    'a set': saved(lambda good, _: {1, 2}),
    'no weights': saved(lambda good, _: dict(meta=good['meta'])),
    'empty weights': saved(lambda good, _: dict(state_dict={})),
    'weights that are a list': saved(lambda good, _: dict(state_dict=[1, 2])),
    'weights that are a string': saved(lambda good, _: dict(state_dict='weights')),
    'weights that are None': saved(lambda good, _: dict(state_dict=None)),
    'weights that are numbers': saved(valued(lambda _: 1.)),
    'weights that are arrays': saved(valued(lambda value: value.numpy())),
    'weights that are lists': saved(valued(lambda value: value.tolist())),
    'names that are numbers': saved(lambda good, _: dict(state_dict=dict(enumerate(good['state_dict'].values())))),
    'other names': saved(renamed(lambda name: f'x{name}')),
    'names of a layer more': saved(renamed(lambda name: name.replace('layers.0', 'layers.7'))),
    'a weight less': saved(lambda good, _: dict(state_dict=dict([*good['state_dict'].items()][1:]))),
    'other shapes': saved(valued(lambda value: torch.zeros(3, 3))),
    'a kernel without its bias': saved(lambda good, _: dict(state_dict={
        **good['state_dict'], 'backbone.patch_embed.kernels.2.weight': torch.zeros(16, 3, 8, 8)})),
    'another class': saved(lambda good, _: dict(good, other=Foreign())),
    'a class instead of a dict': saved(lambda good, _: Foreign()),
    'code': saved(lambda good, bad: dict(good, payload=Payload(bad.with_suffix('.ran')))),
    'code in the logs': saved(lambda good, bad: dict(good, message_hub=Payload(bad.with_suffix('.ran')))),
    'code instead of a dict': saved(lambda good, bad: Payload(bad.with_suffix('.ran'))),
    'code in an old file': saved(lambda good, bad: Payload(bad.with_suffix('.ran')),
                                 _use_new_zipfile_serialization=False),
    'code in a plain pickle': lambda good, bad: bad.write_bytes(pickle.dumps(Payload(bad.with_suffix('.ran')))) and None,
    'code in a plain pickle of protocol 2': lambda good, bad: bad.write_bytes(
        pickle.dumps(Payload(bad.with_suffix('.ran')), 2)) and None,
    'a way to code': saved(lambda good, _: dict(good, sneaky=Sneaky())),
    'a lambda by name': saved(lambda good, _: dict(good, function=os.system)),
    'a counter': saved(lambda good, _: dict(good, deque=collections.deque([1]))),
    'nothing': raw(lambda data: b''),
    'one byte': raw(lambda data: b'P'),
    'text': raw(lambda data: b'no checkpoint'),
    'HTML': raw(lambda data: b'<!DOCTYPE html><html>404</html>'),
    'a pointer of Git LFS': raw(lambda data: b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'),
    'zeros': raw(lambda data: bytes(1000)),
    'noise': raw(lambda data: random.Random(0).randbytes(5000)),
    'flipped bits': raw(with_bits_flipped),
    'its end alone': raw(lambda data: data[len(data) // 2:]),
    **{f'cut after {share:.0%}': raw(lambda data, share=share: data[:int(len(data) * share)])
       for share in (0.01, 0.1, 0.5, 0.9, 0.999)},
    'a folder': lambda good, bad: bad.mkdir(),
    'no file': lambda good, bad: None,
    'a dangling link': lambda good, bad: bad.symlink_to('nowhere'),
    'a link to itself': lambda good, bad: bad.symlink_to(bad.name),
}


@pytest.fixture
def world(ground, tmp_path):
    (tmp_path / 'out').mkdir()
    return World(ground)


@pytest.mark.parametrize('case', CHECKPOINTS)
def test_a_broken_checkpoint_is_refused(world, tmp_path, case):
    bad = tmp_path / 'bad.pth'
    CHECKPOINTS[case](world.folder / 'base.pth', bad)
    sentence = world.fails('merge_adapter.py', 'mspe.py', bad, '--adapter', 'adapter.safetensors', '--out',
                           tmp_path / 'out/merged.pth')
    assert f'checkpoint {bad}' in sentence
    assert not list((tmp_path / 'out').iterdir())
    assert not bad.with_suffix('.ran').exists()    # no code has run


RESUMED = {
    'weights alone': saved(lambda good, _: dict(state_dict=good['state_dict'])),
    'no epoch': saved(lambda good, _: dict(good, meta={})),
    'a list as meta': saved(lambda good, _: dict(good, meta=[])),
    'no logs': saved(lambda good, _: {key: value for key, value in good.items() if key != 'message_hub'}),
    'logs that are a list': saved(lambda good, _: dict(good, message_hub=[])),
    'another optimizer': saved(lambda good, _: dict(good, optimizer=dict(state={}, param_groups=[]))),
    'an optimizer that is a list': saved(lambda good, _: dict(good, optimizer=[])),
    'schedulers that are numbers': saved(lambda good, _: dict(good, param_schedulers=[1, 2])),
}


@pytest.mark.parametrize('case', RESUMED)
def test_a_checkpoint_that_cannot_be_resumed_is_refused(world, tmp_path, case):
    bad = tmp_path / 'bad.pth'
    RESUMED[case](world.folder / 'work_dirs/mspe/epoch_3.pth', bad)
    run = Run(world.folder, 'train.py', 'mspe.py', '--resume', bad, '--work-dir', tmp_path / 'out')
    assert run.wait() == 1, run.printed()
    assert 'Traceback' not in run.printed()
    assert run.printed().splitlines()[-1].startswith(f'error: checkpoint {bad} cannot be resumed')
    assert not list((tmp_path / 'out').glob('*.pth')) + list((tmp_path / 'out').glob('*.safetensors'))


def test_the_file_of_an_init_cfg_runs_no_code(world, tmp_path):
    bad = tmp_path / 'bad.pth'
    CHECKPOINTS['code'](world.folder / 'base.pth', bad)
    sentence = world.fails('train.py', 'mspe.py', '--work-dir', tmp_path / 'out', '--cfg-options', 'strict_load=False',
                           'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={bad}')
    assert f'checkpoint {bad} cannot be read without running code' in sentence
    assert not bad.with_suffix('.ran').exists()


def test_a_trusted_checkpoint_may_run_its_code(world, tmp_path):
    bad = tmp_path / 'bad.pth'
    CHECKPOINTS['code'](world.folder / 'base.pth', bad)
    command = ('merge_adapter.py', 'mspe.py', bad, '--adapter', 'adapter.safetensors', '--out', tmp_path / 'out/merged.pth')
    assert 'pass --trust-checkpoint if you trust its source' in world.fails(*command)
    world.call(*command, '--trust-checkpoint')
    assert bad.with_suffix('.ran').exists()
    assert (tmp_path / 'out/merged.pth').exists()


def changed(tensors: Callable[[dict], object] = lambda tensors: None,
            metadata: Callable[[dict], object] = lambda metadata: None) -> Callable[[Path, Path], None]:
    """Writes an adapter whose tensors and metadata (values are JSON) have been changed."""
    def write(good: Path, bad: Path) -> None:
        held = load_file(good)
        with safe_open(good, 'pt') as file:
            described = dict(file.metadata())
        tensors(held)
        metadata(described)
        save_file(held, bad, described)
    return write


def every(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    return lambda tensors: tensors.update({name: change(value).contiguous() for name, value in tensors.items()})


def one_value(value: float) -> Callable[[dict], None]:
    def change(tensors: dict) -> None:
        tensors['2.weight'].view(-1)[0] = value
    return change


WRONG = dict(embed_dims=['"16"', '16.5', 'true', '[16]', '99999999999999'], base_resolution=['32', '[32]', '["32", "32"]'],
             kernel_sizes=['4', '[[2], 4, 8]', '[2, 4, 8, 100000000]', '{}', 'null'],
             tuned_sizes=['"2"', '[2, 4, 16]', '[]'],
             parameterization=['3', '"magic"'], interpolation=['[]', '"magic"'], antialias=['1', '"true"'],
             correlation=['"0"', '2', 'NaN', '[0]'], training_seconds=['"1"', '[1]', 'NaN'], base_digest=['7', '"0"'],
             patch_size=['"8"', '0', '-8'], in_channels=['null', '4'])
ADAPTERS = {
    'NaN': changed(one_value(float('nan'))),
    'infinity': changed(one_value(float('-inf'))),
    'an absurd value': changed(one_value(1e30)),
    'a value above the bound': changed(one_value(-1e7)),
    'integers': changed(every(lambda value: value.int())),
    'booleans': changed(every(lambda value: value.bool())),
    'complex numbers': changed(every(lambda value: value.to(torch.complex64))),
    'other shapes': changed(every(lambda value: value[:4])),
    'a tensor less': changed(lambda tensors: tensors.pop('2.weight')),
    'a kernel less': changed(lambda tensors: [tensors.pop(f'2.{part}') for part in ('weight', 'bias')]),
    'a kernel more': changed(lambda tensors: tensors.update({'16.weight': torch.zeros(16, 3, 8, 8)})),
    'another name': changed(lambda tensors: tensors.update(extra=torch.zeros(1))),
    'no tensors': changed(lambda tensors: tensors.clear()),
    'no metadata': changed(metadata=lambda metadata: metadata.clear()),
    'another format': changed(metadata=lambda metadata: metadata.update(format='mspe_mm.adapter/99')),
    'nested JSON': changed(metadata=lambda metadata: metadata.update(kernel_sizes='[' * 100_000)),
    **{f'{key} = {value}': changed(metadata=lambda metadata, key=key, value=value: metadata.update({key: value}))
       for key, values in WRONG.items() for value in values},
    **{f'no {key}': changed(metadata=lambda metadata, key=key: metadata.pop(key))
       for key in ('base_digest', 'kernel_sizes', 'tuned_sizes', 'parameterization')},
    **{f'{key} is no JSON': changed(metadata=lambda metadata, key=key: metadata.update({key: '{'})) for key in WRONG},
    **{f'cut after {share:.0%}': raw(lambda data, share=share: data[:int(len(data) * share)])
       for share in (0., 0.001, 0.1, 0.5, 0.999)},
    'a header that is too long': raw(lambda data: (2**60).to_bytes(8, 'little') + data[8:]),
    'a header that is no JSON': raw(lambda data: data[:8] + b'x' * 100 + data[108:]),
    'a checkpoint': saved(lambda good, _: good),
    'text': raw(lambda data: b'no adapter'),
    'a folder': lambda good, bad: bad.mkdir(),
    'no file': lambda good, bad: None,
    'a link to itself': lambda good, bad: bad.symlink_to(bad.name),
}


@pytest.mark.parametrize('case', ADAPTERS)
def test_a_broken_adapter_is_refused(world, tmp_path, case):
    bad = tmp_path / 'bad.safetensors'
    good = world.folder / ('base.pth' if case == 'a checkpoint' else 'adapter.safetensors')
    ADAPTERS[case](good, bad)
    sentence = world.fails('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', bad, '--out', tmp_path / 'out/merged.pth')
    assert str(bad) in sentence
    assert not list((tmp_path / 'out').iterdir())


def test_the_corpus_is_large():
    assert len(CHECKPOINTS) + len(RESUMED) + len(ADAPTERS) >= 100


def test_the_adapter_that_the_cases_are_made_of_is_good(world, tmp_path):
    changed()(world.folder / 'adapter.safetensors', tmp_path / 'same.safetensors')
    world.call('merge_adapter.py', 'mspe.py', 'base.pth', '--adapter', tmp_path / 'same.safetensors', '--out',
               tmp_path / 'out/merged.pth')
    assert json.loads(safe_open(tmp_path / 'same.safetensors', 'pt').metadata()['kernel_sizes']) == [2, 4, 8]
    assert 'state_dict' in torch.load(tmp_path / 'out/merged.pth', weights_only=True)
