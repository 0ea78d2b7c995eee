"""Bad input ends the tool with one sentence, and exit code 1 (2 for a bad argument)."""
import sys

import pytest
import torch


@pytest.mark.parametrize(('args', 'expected'), [
    (('backbone', '--resolutions', 100), 'resolution 100 is no multiple of 8, the side of the token grid of the base '
                                         'resolution 128: try 96'),
    (('inference', '--base-resolution', 512, '--resolutions', 16), 'resolution 16 is no multiple of 32'),
    (('backbone', '--base-resolution', 100), 'the base resolution must be whole patches of 16 px, and 100 is not: try 96'),
    (('train-step', '--resolutions', 70), 'the base resolution must be whole patches of 16 px, and 70 is not: try 64'),
    (('end-to-end', '--resolutions', 5), 'the base resolution must be whole patches of 16 px, and 5 is not: try 16'),
    (('inference', '--networks', 'mask-rcnn', '--base-resolution', 64, '--resolutions', 16),
     'Mask R-CNN halves the token grid, so it takes images of 32 px at least, and 16 is less'),
    (('train-step', '--networks', 'mask-rcnn', '--resolutions', 16), 'Mask R-CNN halves the token grid'),
    (('backbone', '--peer-path', 'nowhere'), '--peer-path nowhere has no projects/ViTDet/vitdet/vit.py'),
    (('train-step', '--peer-path', 'nowhere'), '--peer-path nowhere has no projects/ViTDet/vitdet/vit.py'),
    (('export', '--dtype', 'bfloat16'), 'exported files are measured on the CPU in float32'),
    (('export', '--base-resolution', 512, '--resolutions', 16), 'resolution 16 is no multiple of 32'),
    (('resize', '--device', 'abacus'), '--device abacus is no device'),
    (('resize', '--device', 'meta'), '--device meta cannot be measured on'),
    (('inference', '--dtype', 'float16', '--device', 'cpu'), '--dtype float16 needs a GPU'),
])
def test_values_that_do_not_fit(sentence, args, expected):
    assert expected in sentence(*args)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_no_gpu(sentence):
    assert '--device cuda needs a GPU, and PyTorch sees none' in sentence('resize', '--device', 'cuda')


def test_a_host_that_is_not_installed(sentence, monkeypatch):
    for name in [name for name in sys.modules if name.startswith('mspe_mm.det')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'mmdet', None)    # as if it were missing
    found = sentence('backbone', '--networks', 'vitdet')
    assert 'mspe_mm.det needs MMDetection' in found
    assert 'choose other --networks' in found


def test_without_timm(sentence, monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm.layers.patch_embed', None)
    assert 'this case compares with timm: pip install -U timm' in sentence('resize')


def test_without_onnxruntime(sentence, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert '--format onnx needs onnxruntime' in sentence('export')


@pytest.mark.parametrize('args', [('sorting', ), ('resize', '--models', 'giant'), ('backbone', '--resolutions', '-3'),
                                  ('resize', '--repeats', '0'), ('inference', '--networks', 'resnet')])
def test_bad_arguments(tool, capsys, args):
    with pytest.raises(SystemExit) as exit_:
        tool(*args)
    assert exit_.value.code == 2
    assert 'error: argument' in capsys.readouterr().err
