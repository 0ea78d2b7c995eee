"""docs/sam_low_resolution.py: Segment Anything's promptable decoder on small images."""
from __future__ import annotations

import re
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import randomize
from PIL import Image
from tools_helpers import ROOT
from transformers import SamConfig, SamModel, SamProcessor

from mspe_mm import convert_patch_embed, save_adapter
from mspe_mm.backbones import MSPEFeatureModel
from mspe_mm.data.scenes import draw_crowd

SCRIPT = ROOT / 'docs/sam_low_resolution.py'


@pytest.fixture(scope='module')
def script():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope='module')
def sam(script):
    """A tiny SAM with weights that are not at 0, as those of tables are at first."""
    torch.manual_seed(0)
    return randomize(SamModel(SamConfig(**script.TINY))).eval()


def call(monkeypatch, capsys, *args: object) -> list[tuple[str, float, float, int]]:
    """The rows that the script prints: their name, IoU, GFLOP and pixels."""
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *map(str, args)])
    runpy.run_path(str(SCRIPT), run_name='__main__')
    found = re.findall(r'^(\d+ px, .+?) +([\d.]+) +([\d.]+) +(\d+)$', capsys.readouterr().out, re.MULTILINE)
    return [(name, float(iou), float(gflop), int(pixels)) for name, iou, gflop, pixels in found]


@pytest.mark.slow
def test_tiny_trains_tunes_and_compares(monkeypatch, capsys):
    rows = call(monkeypatch, capsys, '--tiny', '--steps', 2)
    assert [name for name, *_ in rows] == [
        '256 px, base', '64 px, MSPE, not tuned', '64 px, enlarged', '64 px, MSPE, tuned']
    base, prior, enlarged, tuned = rows
    assert (base[1], base[3]) == (1., 256**2)
    assert all(0 <= iou <= 1 and pixels == 64**2 for _, iou, _, pixels in (prior, enlarged, tuned))
    assert prior[2] == tuned[2] < base[2] == enlarged[2]    # the same tokens, from kernels of 4 px


@pytest.mark.slow
def test_a_checkpoint_an_adapter_and_an_image_of_ones_own(script, sam, tmp_path, monkeypatch, capsys):
    stock = SamModel(sam.config)
    stock.load_state_dict(sam.state_dict())
    stock.save_pretrained(tmp_path / 'sam')
    layer = convert_patch_embed(stock.vision_encoder, 256)
    randomize(layer.kernels)
    save_adapter(layer, tmp_path / 'adapter.safetensors')
    Image.fromarray(draw_crowd((192, 320), 0, 'val', 0).image).save(tmp_path / 'image.png')
    rows = call(monkeypatch, capsys, '--checkpoint', tmp_path / 'sam', '--image', tmp_path / 'image.png',
                '--points', '100,50', '300,180.5', '--adapter', tmp_path / 'adapter.safetensors', '--size', 128)
    assert [(name, pixels) for name, _, _, pixels in rows] == [
        ('256 px, base', 256**2), ('128 px, MSPE, not tuned', 128**2), ('128 px, enlarged', 128**2),
        ('128 px, MSPE, tuned', 128**2)]
    assert rows[0][1] == 1.
    other = SamModel(sam.config)
    save_adapter(convert_patch_embed(other.vision_encoder, 256), tmp_path / 'other.safetensors')
    with pytest.raises(SystemExit, match=r'^error: .*other\.safetensors does not fit this checkpoint'):
        call(monkeypatch, capsys, '--checkpoint', tmp_path / 'sam', '--adapter', tmp_path / 'other.safetensors')


def test_masks_are_those_of_sams_own_processor_and_model(script, sam):
    """At the base resolution, from the image to the mask of each point."""
    image = Image.fromarray(draw_crowd((192, 320), 0, 'val', 0).image)
    points = torch.tensor([[100., 50.], [300., 180.]])
    side = dict(height=256, width=256)
    processor = SamProcessor(script.SamImageProcessor(size=dict(longest_edge=256), pad_size=side))
    processor.target_size = 256
    inputs = processor(images=image, input_points=[[[point] for point in points.tolist()]], return_tensors='pt')
    with torch.no_grad():
        expected = sam(pixel_values=inputs['pixel_values'], input_points=inputs['input_points'].float())
    best = expected.iou_scores[0].argmax(1)
    x = script.pixels(image, 256)
    assert torch.equal(x, inputs['pixel_values'])
    found = script.masks(sam, sam.get_image_embeddings(x), points * 256 / 320)
    assert torch.equal(found, expected.pred_masks[0, [0, 1], best] > 0)
    assert found.any()


def test_the_adapter_of_timms_encoder_loads_on_segment_anything(script, sam, tmp_path):
    """The encoder tunes bare, by tools/train.py; the patch kernel is the same in timm and transformers."""
    bare = MSPEFeatureModel(tuning={}, backbone=dict(
        type='MSPETimmViT', model_name='samvit_base_patch16', img_size=256,
        model_kwargs=dict(embed_dim=64, depth=1, num_heads=2)))
    stock = SamModel(sam.config)
    stock.load_state_dict(sam.state_dict())
    bare.mspe_layer.base.load_state_dict(stock.vision_encoder.patch_embed.projection.state_dict())
    bare.mspe_layer.reset_kernels()
    randomize(bare.mspe_layer.kernels)
    save_adapter(bare.mspe_layer, tmp_path / 'adapter.safetensors')
    layer = convert_patch_embed(stock.vision_encoder, 256)
    script.load_adapter(layer, tmp_path / 'adapter.safetensors')
    kernels = bare.mspe_layer.kernels.state_dict()
    assert layer.kernels.state_dict().keys() == kernels.keys()
    assert all(torch.equal(value, kernels[name]) for name, value in layer.kernels.state_dict().items())
    x = torch.randn(1, 3, 256, 256)
    assert torch.equal(stock.get_image_embeddings(x), sam.get_image_embeddings(x))


@pytest.mark.parametrize(('a', 'b', 'expected'), [([[1, 1], [0, 0]], [[1, 0], [0, 0]], 0.5), ([[0, 0]], [[0, 0]], 1.),
                                                  ([[1, 0]], [[0, 1]], 0.)])
def test_iou_of_masks(script, a, b, expected):
    a, b = (torch.tensor([mask]).bool() for mask in (a, b))
    assert script.iou(a, b) == expected


def test_a_checkpoint_that_does_not_exist_is_refused_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(SystemExit, match=r'^error: .*no/such/folder'):
        call(monkeypatch, capsys, '--checkpoint', 'no/such/folder')


@pytest.mark.parametrize('args', [(), ('--tiny', '--image', 'x.png'), ('--tiny', '--points', '1,2')])
def test_arguments_that_miss_another_are_refused(monkeypatch, capsys, args):
    with pytest.raises(SystemExit) as exit_:
        call(monkeypatch, capsys, *args)
    assert exit_.value.code == 2
