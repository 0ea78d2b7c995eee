"""Sliding windows that follow the image."""
import pytest
import torch
from helpers import noise, randomize
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

import mspe_mm.seg  # noqa: F401
from mspe_mm.seg.windows import scaled_windows, window_scale

CITYSCAPES = dict(mode='slide', crop_size=(768, 768), stride=(512, 512))


def test_window_scale_is_that_of_the_image_to_the_size_that_windows_are_for():
    cfg = ConfigDict(CITYSCAPES, scale=(2049, 1025))
    assert window_scale(cfg, (1024, 2048)) == pytest.approx(1, abs=1e-3)
    assert window_scale(cfg, (1025, 2049)) == 1
    assert window_scale(cfg, (256, 512)) == pytest.approx(0.25, abs=1e-3)
    assert window_scale(cfg, (512, 256)) == pytest.approx(0.25, abs=1e-3)    # the scale of Resize has no orientation
    assert window_scale(cfg, (4000, 8000)) == 1
    assert scaled_windows(cfg, window_scale(cfg, (256, 512))).crop_size == (192, 192)


def test_window_scale_without_a_size_fits_a_window_into_the_image():
    cfg = ConfigDict(CITYSCAPES)
    assert window_scale(cfg, (256, 512)) == pytest.approx(1 / 3)
    assert window_scale(cfg, (768, 900)) == 1
    assert window_scale(ConfigDict(CITYSCAPES, scale=None), (256, 512)) == 1


@pytest.mark.parametrize(('size', 'windows'), [((64, 96), [(32, 48)] * 9), ((32, 48), [(16, 24)] * 9),
                                               ((128, 192), [(32, 48)] * 49)])
def test_slide_inference_cuts_as_many_windows_from_a_small_image_and_leaves_the_model_alone(size, windows, monkeypatch):
    init_default_scope('mmseg')
    model = randomize(MODELS.build(ConfigDict(
        type='MSPEEncoderDecoder', train_cfg=dict(),
        test_cfg=dict(mode='slide', crop_size=(32, 48), stride=(16, 24), scale=(96, 64)),
        backbone=dict(type='MSPEViT', img_size=(32, 48), embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, )),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=0, num_classes=3, num_convs=1, up_scale=2,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN'))))).eval()
    seen, encode_decode, before = [], EncoderDecoder.encode_decode, dict(model.test_cfg)
    monkeypatch.setattr(EncoderDecoder, 'encode_decode', lambda self, images, metas: seen.append(
        tuple(images.shape[-2:])) or encode_decode(self, images, metas))
    with torch.no_grad():
        logits = model.slide_inference(noise(1, 3, *size, dtype=torch.float32), [dict(img_shape=size)])
    assert logits.shape == (1, 3, *size)
    assert seen == windows
    assert dict(model.test_cfg) == before
