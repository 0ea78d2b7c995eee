"""Other ways to a static graph, and the hosts' own tools, on models with fused attention."""
from __future__ import annotations

import importlib.util
import io
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from export_helpers import config, model_of
from helpers import noise
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mspe_mm.export.graphs import outputs_of

SIZES = {'segmentor': (32, 48), 'segformer': (32, 48), 'classifier': (32, 32), 'detector': (32, 32)}
every_model = pytest.mark.parametrize('name', SIZES)


class Outputs(nn.Module):
    """What is exported of a model, from normalised images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return outputs_of(self.model, images)


def traceable(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, an image to trace it with, and another of the size."""
    module = Outputs(model_of(name)).requires_grad_(False).eval()
    image, other = (noise(1, 3, *SIZES[name], dtype=torch.float32, seed=seed) for seed in (1, 2))
    return module, image, other


@every_model
def test_jit_trace_of_a_fused_model_gives_its_outputs(name):
    module, image, other = traceable(name)
    traced = torch.jit.trace(module, image)
    for found, expected in zip(traced(other), module(other)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@every_model
def test_the_legacy_onnx_export_of_a_fused_model_gives_its_outputs(name):
    module, image, other = traceable(name)
    file = io.BytesIO()
    torch.onnx.export(module, (image, ), file, dynamo=False, opset_version=17)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    found = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    for a, b in zip(found, module(other)):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-4)


def get_flops(host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *args: object) -> float:
    """GFLOP as the host's own get_flops.py prints it."""
    folder = Path(importlib.util.find_spec(host).origin).parent
    spec = importlib.util.spec_from_file_location('get_flops', folder / '.mim/tools/analysis_tools/get_flops.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['get_flops.py', *map(str, args)])
    MMLogger._instance_dict.clear()
    tool.main()
    number, unit = re.search(r'Flops: ([\d.]+)([KMG])', capsys.readouterr().out).groups()
    return float(number) * dict(K=1e-6, M=1e-3, G=1)[unit]


@pytest.mark.parametrize('attention', ['fused', 'naive'])
def test_get_flops_of_mmseg_takes_a_segmentor(tmp_path, monkeypatch, capsys, attention):
    model = config('segmentor')
    model.backbone.attention = attention
    Config(dict(model=model.to_dict(), custom_imports=dict(imports=['mspe_mm.seg']))).dump(tmp_path / 'config.py')
    base, low = (get_flops('mmseg', monkeypatch, capsys, tmp_path / 'config.py', '--shape', *size)
                 for size in ((64, 96), (32, 48)))
    tokens, width = 24, 16
    patches = tokens * width * 3 * 16 * 16
    blocks = 2 * tokens * 12 * width * width
    assert patches + blocks < base * 1e9 < 3 * (patches + blocks)
    # A trace has no cache, so the resize of the kernel to 8 px counts; mmengine takes a broadcast product for a single one.
    resize = 8 * 16 * 16 + 3 * width * 8 * 16 * 8
    assert (base - low) * 1e9 == pytest.approx(patches * 3 / 4 - resize, abs=1e4)    # printed in units of 10 thousand


def test_get_flops_of_mmdet_takes_a_detector(tmp_path, coco_folder, monkeypatch, capsys):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32), keep_ratio=True),
                dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
    loader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
        type='CocoDataset', data_root=str(coco_folder), ann_file='instances.json', data_prefix=dict(img=''), test_mode=True,
        pipeline=pipeline))
    Config(dict(model=config('detector').to_dict(), default_scope='mmdet', val_dataloader=loader,
                custom_imports=dict(imports=['mspe_mm.det']))).dump(tmp_path / 'config.py')
    found = get_flops('mmdet', monkeypatch, capsys, tmp_path / 'config.py', '--num-images', 2)
    tokens, width = 16, 16
    assert found * 1e9 > tokens * width * 3 * 8 * 8 + 2 * tokens * (4 + 4) * width * width
