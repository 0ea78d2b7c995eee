"""Inference in bfloat16: weights as they were, numbers of that precision, and who cannot."""
import copy

import pytest
import torch
from det_helpers import build, mask_rcnn, retinanet, stock
from helpers import noise, randomize, relative_error
from mmengine.registry import init_default_scope

from mspe_mm.errors import InputError
from mspe_mm.runtime.mixed_precision import use_mixed_precision
from mspe_mm.seg import MSPEViT


@pytest.mark.parametrize('size', [64, 32, 24])
def test_a_backbone_computes_in_bfloat16_and_keeps_its_weights(size):
    model = randomize(MSPEViT(img_size=64, embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ))).eval()
    images = noise(1, 3, size, size, dtype=torch.float32)
    with torch.no_grad():
        (expected, ) = model(images)
        use_mixed_precision(model)
        (actual, ) = model(images)
    # A block rounds a dozen times, each time by half a unit in the last place at most.
    assert 0 < relative_error(actual, expected) < 6 * torch.finfo(torch.bfloat16).eps
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not torch.is_autocast_cpu_enabled()


@pytest.mark.parametrize('make', [mask_rcnn, retinanet])
@pytest.mark.parametrize('size', [64, 32])
def test_a_detector_finds_the_same_boxes(make, size):
    init_default_scope('mmdet')
    model = build(make())
    samples = [torch.randint(256, (3, size, size), dtype=torch.uint8)]

    def detect():
        from mmdet.structures import DetDataSample
        sample = DetDataSample(metainfo=dict(ori_shape=(size, size), img_shape=(size, size), scale_factor=(1., 1.)))
        with torch.no_grad():
            (found, ) = model.test_step(dict(inputs=samples, data_samples=[sample]))
        return found.pred_instances

    expected = detect()
    use_mixed_precision(model)
    actual = detect()
    assert actual.bboxes.dtype == actual.scores.dtype == torch.float32
    assert len(actual) > 0
    assert (actual.scores[0] - expected.scores[0]).abs() < 0.05
    assert torch.isfinite(actual.bboxes).all()


def test_who_cannot_is_refused():
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    detector = MODELS.build(stock(mask_rcnn()))
    with pytest.raises(InputError, match=r"the heads of MaskRCNN cannot run in bfloat16: .*model.type='MSPEMaskRCNN'"):
        use_mixed_precision(detector)
    with pytest.raises(InputError, match='--amp float16 needs a GPU'):
        use_mixed_precision(MSPEViT(img_size=32, embed_dims=16, num_layers=1, num_heads=2), 'float16')


def test_use_mixed_precision_is_copied_with_the_model():
    model = randomize(MSPEViT(img_size=32, embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ))).eval()
    use_mixed_precision(model)
    copied = copy.deepcopy(model)
    images = noise(1, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        (expected, ) = model(images)
        for parameter in model.parameters():
            parameter.zero_()
        (actual, ) = copied(images)
    assert expected.any()
    assert torch.equal(actual, expected)
