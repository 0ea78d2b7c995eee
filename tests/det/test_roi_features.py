"""Features of regions: mmcv's RoIAlign reads channels-first memory without a check, torchvision's any."""
import copy

import pytest
import torch
from det_helpers import NECK, build, cascade_mask_rcnn, mask_rcnn, preprocessor, stock, tiny_backbone
from helpers import noise
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine import ConfigDict

from mspe_mm.runtime.memory_format import use_channels_last

SIZE = 64


def with_torchvision(model):
    """The same model with torchvision's RoIAlign."""
    model = copy.deepcopy(model)
    layers = [module for module in model.modules() if isinstance(module, RoIAlign)]
    assert layers
    for layer in layers:
        layer.use_torchvision = True
    return model


def samples(count):
    shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE),
                 scale_factor=(1., 1.))
    return [DetDataSample(metainfo=shape) for _ in range(count)]


def region_features(model, images):
    """What the box head and the mask head see of two regions of each image."""
    features = model.extract_feat(images)
    boxes = torch.tensor([[3., 5., 30., 40.], [20., 8., 61., 37.]])
    rois = torch.cat([torch.cat([torch.full((2, 1), float(index)), boxes], 1) for index in range(len(images))])
    head = model.roi_head
    extractors = [head.mask_roi_extractor, head.bbox_roi_extractor]
    extractors = [one for each in extractors for one in (each if isinstance(each, torch.nn.ModuleList) else [each])]
    return [extractor(features[:extractor.num_inputs], rois) for extractor in extractors]


CONVERTED = dict(
    type='MSPEMaskRCNN', data_preprocessor={**preprocessor(SIZE), 'patch_size': 4},
    patch_embed=dict(base_resolution=SIZE, check=False),
    backbone=dict(type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2),
    neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5))
DETECTORS = {
    'MSPEMaskRCNN': mask_rcnn(),
    'MaskRCNN, the base model of the recipes': stock(mask_rcnn()),
    'MSPECascadeRCNN': cascade_mask_rcnn(),
    'a converted Swin Transformer': ConfigDict({**mask_rcnn(), **CONVERTED}),
    'no norm in the pyramid': mask_rcnn(neck={**NECK, 'norm_cfg': None}),
}


@pytest.mark.parametrize('size', [(64, 64), (32, 32)])
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', DETECTORS)
@torch.no_grad()
def test_heads_see_the_regions_that_torchvision_cuts_out(name, channels_last, size):
    model = build(copy.deepcopy(DETECTORS[name]))
    expected = region_features(with_torchvision(model), noise(2, 3, *size, dtype=torch.float32))
    if channels_last:
        use_channels_last(model)
    actual = region_features(model, noise(2, 3, *size, dtype=torch.float32))
    assert len(actual) == len(expected) >= 2
    for a, b in zip(actual, expected):
        assert b.std() > 0.01
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('channels_last', [False, True])
@torch.no_grad()
def test_detections_are_those_with_the_regions_of_torchvision(channels_last):
    model, images = build(mask_rcnn()), noise(2, 3, SIZE, SIZE, dtype=torch.float32)
    expected = with_torchvision(model).predict(images, samples(2))
    if channels_last:
        use_channels_last(model)
    for a, b in zip(model.predict(images, samples(2)), expected):
        assert len(b.pred_instances) > 0
        assert torch.equal(a.pred_instances.labels, b.pred_instances.labels)
        torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.pred_instances.bboxes, b.pred_instances.bboxes, rtol=1e-4, atol=1e-3)


def test_gradients_are_those_with_the_regions_of_torchvision():
    model, images = build(mask_rcnn()), noise(2, 3, SIZE, SIZE, dtype=torch.float32)
    gradients = []
    for each in (model, with_torchvision(model)):
        each.zero_grad()
        sum(features.square().sum() for features in region_features(each, images)).backward()
        gradients.append({name: parameter.grad for name, parameter in each.named_parameters() if parameter.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(name.startswith('backbone') for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_backbone_and_pyramid_return_contiguous_maps():
    """mmdet's own detectors take these features as they are."""
    backbone, neck = MODELS.build(tiny_backbone()), MODELS.build(NECK)
    maps = backbone(noise(2, 3, SIZE, SIZE, dtype=torch.float32))
    assert all(features.is_contiguous() for features in (*maps, *neck(maps)))
