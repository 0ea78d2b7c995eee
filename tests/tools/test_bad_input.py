"""Bad input ends every tool with one sentence that names the culprit, and exit code 1 (2 for a bad argument)."""
import shutil

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture
def tuned(world):
    return ['mspe.py', 'base.pth', '--adapter', 'adapter.safetensors']


@pytest.fixture
def broken_data(world):
    """Change one training file of a copy of the data set; returns a function that does so and the options to use it."""
    copies = []

    def break_(folder, change):
        copy = world.folder / f'broken{len(copies)}'
        copies.append(copy)
        shutil.copytree(world.folder / 'data', copy)
        change(copy / folder / 'train' / '00003.png')
        return ['--cfg-options', f'train_dataloader.dataset.data_root={copy}', 'train_cfg.max_epochs=1', 'val_cfg=None',
                'val_dataloader=None', 'val_evaluator=None']

    yield break_
    for copy in copies:
        shutil.rmtree(copy)


def test_a_missing_checkpoint(world):
    sweep = ('--resolutions', 16, '--out-dir', 'x')
    assert 'nowhere.pth does not exist' in world.fails('eval_multiscale.py', 'mspe.py', 'nowhere.pth', *sweep)
    assert 'nowhere.pth does not exist' in world.fails('test.py', 'mspe.py', 'nowhere.pth')
    assert 'nowhere.pth does not exist' in world.fails('train.py', 'mspe.py', '--cfg-options', 'load_from=nowhere.pth')


def test_a_truncated_checkpoint(world):
    whole = (world.folder / 'base.pth').read_bytes()
    (world.folder / 'cut.pth').write_bytes(whole[:len(whole) // 2])
    for tool, args in (('test.py', ['mspe.py', 'cut.pth']), ('train.py', ['mspe.py', '--cfg-options', 'load_from=cut.pth'])):
        assert 'cut.pth cannot be read, it is truncated' in world.fails(tool, *args)


def test_a_checkpoint_of_another_architecture(world):
    other = torch.load(world.folder / 'base.pth', weights_only=False)['state_dict']
    other = {name.replace('layers.1', 'layers.5'): value for name, value in other.items()}
    torch.save(dict(state_dict=other), world.folder / 'other.pth')
    for tool, args in (('test.py', ['mspe.py', 'other.pth']),
                       ('train.py', ['mspe.py', '--cfg-options', 'load_from=other.pth'])):
        assert 'checkpoint other.pth is not of this model' in world.fails(tool, *args)


def test_an_image_that_cannot_be_decoded(world, broken_data):
    options = broken_data('images', lambda path: path.write_bytes(b'no picture'))
    sentence = world.fails('train.py', 'mspe.py', *options)
    assert 'images/train/00003.png cannot be decoded' in sentence


def test_a_mask_of_another_size(world, broken_data):
    options = broken_data('annotations', lambda path: cv2.imwrite(str(path), np.zeros((64, 60), np.uint8)))
    sentence = world.fails('train.py', 'mspe.py', *options)
    assert 'annotations/train/00003.png is 64 x 60 px, and its image' in sentence


def test_a_class_outside_the_config(world, broken_data):
    options = broken_data('annotations', lambda path: cv2.imwrite(str(path), np.full((64, 64), 77, np.uint8)))
    assert '00003.png holds class 77' in world.fails('train.py', 'mspe.py', *options)


def test_an_empty_folder(world):
    (world.folder / 'empty/images/train').mkdir(parents=True)
    (world.folder / 'empty/annotations/train').mkdir(parents=True)
    sentence = world.fails('train.py', 'mspe.py', '--cfg-options', 'train_dataloader.dataset.data_root=empty')
    assert 'there are no images in empty/images/train' in sentence


@pytest.mark.parametrize('resolution', ['0', '-64', '0x64', '64x0', 'large', '64x64x3', '16.5'])
def test_a_resolution_that_is_none(world, tuned, resolution, capsys):
    with pytest.raises(AssertionError, match='2'):    # argparse exits with code 2, and a sentence on stderr
        world.fails('eval_multiscale.py', *tuned, '--resolutions', resolution, '--out-dir', 'x')
    assert f"'{resolution}' is not a resolution" in capsys.readouterr().err.splitlines()[-1]


def test_an_unknown_method(world, tuned, capsys):
    with pytest.raises(AssertionError, match='2'):
        world.fails('eval_multiscale.py', *tuned, '--resolutions', 16, '--methods', 'magic', '--out-dir', 'x')
    assert "invalid choice: 'magic'" in capsys.readouterr().err.splitlines()[-1]


def test_a_config_without_mspe(world):
    sweep = ('--resolutions', 16, '--out-dir', 'x')
    assert 'config base.py has no MSPE' in world.fails('eval_multiscale.py', 'base.py', 'base.pth', *sweep)
    assert 'config base.py has no MSPE' in world.fails('train.py', 'base.py', '--adapter', 'adapter.safetensors')
    merge = ('--adapter', 'adapter.safetensors', '--out', 'x.pth')
    assert 'config base.py has no MSPE' in world.fails('merge_adapter.py', 'base.py', 'base.pth', *merge)
    world.write_config('setr_mspe_5e_synthetic', 'stock_backbone.py',
                       "model['backbone'].update(_delete_=True, type='VisionTransformer', img_size=(64, 64), embed_dims=32, "
                       "num_layers=2, num_heads=2)\nload_from = 'base.pth'")
    assert 'VisionTransformer has none' in world.fails('train.py', 'stock_backbone.py')


def test_tuning_without_a_checkpoint(world):
    world.write_config('setr_mspe_5e_synthetic', 'no_base.py', 'load_from = None')
    assert 'load_from=CHECKPOINT' in world.fails('train.py', 'no_base.py')


def test_settings_that_contradict_each_other(world):
    options = ['--cfg-options', 'model.backbone.kernel_sizes=[4,8]']
    assert 'kernel_sizes must include the patch size 16' in world.fails('train.py', 'mspe.py', *options)
    options = ['--cfg-options', 'model.backbone.downsampling.interpolation=magic']
    assert "unknown interpolation 'magic'" in world.fails('test.py', 'mspe.py', 'base.pth', *options)


def test_an_adapter_of_another_model(world, tmp_path):
    other = torch.load(world.folder / 'base.pth', weights_only=False)
    other['state_dict']['backbone.patch_embed.projection.weight'] += 0.1
    torch.save(other, world.folder / 'retrained.pth')
    sentence = world.fails('test.py', 'mspe.py', 'retrained.pth', '--adapter', 'adapter.safetensors')
    assert 'adapter.safetensors does not fit this checkpoint' in sentence
    options = ['--cfg-options', 'model.backbone.kernel_sizes=[4,16]']
    sentence = world.fails('test.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', *options)
    assert 'adapter.safetensors does not fit this model' in sentence
    assert 'kernel_sizes' in sentence


def test_amp_without_an_accelerator(world, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'mixed precision (--amp, AmpOptimWrapper) needs a GPU' in world.fails('train.py', 'mspe.py', '--amp')
