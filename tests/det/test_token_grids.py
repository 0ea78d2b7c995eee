"""Detectors on other token grids: the frame stays, and neck and heads see the encoder's features at their usual sizes."""
import copy
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from det_helpers import fcos, lively, mask_rcnn
from helpers import noise, randomize
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.testing import demo_mm_inputs

from mspe_mm.det.detectors import _known
from mspe_mm.det.frame import base_tokens, features_in_frame, frame_metainfo, frame_scale

COARSE = (2, 2)    # of a base grid of 4 x 4: patches of 16 px at half of the resolution
GRIDS = dict(backbone=dict(token_grids=[COARSE]))
detectors = pytest.mark.parametrize('config', [mask_rcnn, fcos])


def build(config, **settings):
    return randomize(MODELS.build(config(**{**GRIDS, **settings})))


def sample(size):
    return DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size, ori_shape=(40, 40),
                                       scale_factor=(size[1] / 40, size[0] / 40)))


def test_the_frame_is_that_of_the_base_resolution_on_any_grid():
    layer = build(mask_rcnn).mspe_layer
    meta = sample((24, 32)).metainfo
    expected = frame_metainfo(meta, layer, (32, 32))
    for grid in ((2, 2), (8, 8), (1, 4), (3, 3)):
        with layer.force_grid(grid):
            assert frame_scale(layer, (32, 32)) == (2, 2)
            assert frame_metainfo(meta, layer, (32, 32)) == expected
            assert base_tokens(layer, (32, 32)) == (Fraction(4, grid[0]), Fraction(4, grid[1]))


def test_levels_of_a_pyramid_have_the_sizes_of_the_base_grid():
    layer = build(mask_rcnn).mspe_layer
    levels = [noise(1, 2, *size) for size in ((2, 2), (1, 1))]
    assert features_in_frame(levels, layer, (64, 64)) is levels
    with layer.force_grid(COARSE):
        found = features_in_frame(levels, layer, (32, 32))
    for level, expected in zip(found, levels):
        torch.testing.assert_close(level, F.interpolate(expected, scale_factor=2, mode='bilinear', align_corners=False))


@detectors
def test_a_coarse_grid_is_the_encoder_on_small_images_and_the_heads_on_its_features_enlarged(config):
    model = build(config).eval()
    layer, image = model.mspe_layer, noise(1, 3, 32, 32, dtype=torch.float32)
    base, small = sample((64, 64)), sample((32, 32))
    with torch.no_grad():
        with layer.force_grid(COARSE):
            (found, ) = model.predict(image, [small])
            (features, ) = model.backbone.forward(image)    # without the hook
        assert features.shape[-2:] == COARSE
        enlarged = F.interpolate(features, (4, 4), mode='bilinear', align_corners=False)
        stand_in = layer.stand_in([image])
        with _known.set((stand_in, model.neck((enlarged, )))):
            (expected, ) = model.predict(stand_in, [base])
    assert len(found.pred_instances) == len(expected.pred_instances) > 0
    torch.testing.assert_close(found.pred_instances.bboxes, expected.pred_instances.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.pred_instances.scores, expected.pred_instances.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('tuning', [dict(type='MixedResolutionObjective', objective='both'),
                                    dict(type='MixedResolutionObjective', objective='distill'),
                                    dict(type='MultiResolutionObjective')])
def test_the_kernels_of_all_grids_are_tuned_and_nothing_else(tuning):
    torch.manual_seed(0)
    model = lively(MODELS.build(fcos(tuning=tuning, **GRIDS))).train()
    data = model.data_preprocessor(
        demo_mm_inputs(4, [(3, 64, 64)] * 4, num_items=[2] * 4, num_classes=3, with_mask=True), training=True)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(8):
        optimizer.zero_grad()
        model.parse_losses(model(**copy.deepcopy(data), mode='loss'))[0].backward()
        optimizer.step()
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == {
        f'backbone.patch_embed.kernels.{name}' for name in model.mspe_layer.kernels.state_dict()}


def test_random_token_grids_train_a_detector():
    model = lively(MODELS.build(fcos(tuning=dict(token_grids=[8, 5])))).train()
    data = model.data_preprocessor(
        demo_mm_inputs(2, [(3, 64, 64)] * 2, num_items=[2] * 2, num_classes=3, with_mask=True), training=True)
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert {name.partition('.')[0] for name in log if '.' in name} <= {'g8x8', 'g5x5'}
    assert any(kernel.weight.grad is not None and kernel.weight.grad.any() for kernel in model.mspe_layer.kernels.values())


def test_images_with_budgets_are_predicted_as_one_by_one():
    model = build(mask_rcnn).eval()
    model.mspe_layer.budgets = {(32, 32): COARSE}
    sizes = [(64, 64), (32, 32), (48, 48), (16, 16)]
    images = [noise(1, 3, *size, dtype=torch.float32, seed=index) for index, size in enumerate(sizes)]
    with torch.no_grad():
        found = model(images, [sample(size) for size in sizes], mode='predict')
        for one, image, size in zip(found, images, sizes):
            (expected, ) = model.predict(image, [sample(size)])
            assert len(one.pred_instances) == len(expected.pred_instances) > 0
            torch.testing.assert_close(one.pred_instances.bboxes, expected.pred_instances.bboxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(one.pred_instances.scores, expected.pred_instances.scores, rtol=1e-4, atol=1e-5)


def test_boxes_on_a_coarse_grid_are_in_the_original_image():
    model = build(mask_rcnn).eval()
    with torch.no_grad(), model.mspe_layer.force_grid(COARSE):
        meta = dict(img_id=0, ori_shape=(60, 96), img_shape=(20, 32), scale_factor=(1 / 3, 1 / 3))
        (result, ) = model.test_step(dict(inputs=[torch.rand(3, 20, 32) * 255], data_samples=[DetDataSample(metainfo=meta)]))
    boxes = result.pred_instances.bboxes
    assert len(boxes) > 0
    assert boxes[:, 2].max() <= 96
    assert boxes[:, 3].max() <= 60
    assert result.pred_instances.masks.shape[1:] == (60, 96)
