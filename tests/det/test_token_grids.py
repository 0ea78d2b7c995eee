"""Detectors on other token grids: the frame follows the grid, as if images had the size of its base patches."""
import copy

import pytest
import torch
from det_helpers import fcos, lively, mask_rcnn, retinanet
from helpers import noise, randomize
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.testing import demo_mm_inputs

from mspe_mm.det.detectors import _known
from mspe_mm.det.frame import annotations_in_frame, frame_metainfo, frame_scale
from mspe_mm.tuning.distillation import distillation_loss
from mspe_mm.tuning.tuned_model import TunedModel

COARSE = (2, 2)    # of a base grid of 4 x 4: patches of 16 px at half of the resolution
GRIDS = dict(backbone=dict(token_grids=[COARSE]))
detectors = pytest.mark.parametrize('config', [mask_rcnn, fcos])


def build(config, **settings):
    return randomize(MODELS.build(config(**{**GRIDS, **settings})))


def untuned(config, **settings):
    return lively(MODELS.build(config(**{**GRIDS, **settings})))


def sample(size):
    return DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size, ori_shape=(40, 40),
                                       scale_factor=(size[1] / 40, size[0] / 40)))


def annotated(model, count=2):
    """A batch at the base resolution with its samples, as in training."""
    return model.data_preprocessor(
        demo_mm_inputs(count, [(3, 64, 64)] * count, num_items=[2] * count, num_classes=3, with_mask=True), training=True)


def assert_alike(found, expected):
    assert len(found.pred_instances) == len(expected.pred_instances) > 0
    torch.testing.assert_close(found.pred_instances.bboxes, expected.pred_instances.bboxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.pred_instances.scores, expected.pred_instances.scores, rtol=1e-4, atol=1e-5)


def test_the_frame_has_the_base_patch_for_every_token():
    layer = build(mask_rcnn).mspe_layer
    meta = sample((24, 32)).metainfo
    for grid in ((2, 2), (8, 8), (1, 4), (4, 4)):
        with layer.force_grid(grid):
            vertical, horizontal = frame_scale(layer, (32, 32))
            assert (vertical * 32, horizontal * 32) == (16 * grid[0], 16 * grid[1])
            assert frame_metainfo(meta, layer, (32, 32)) == dict(
                img_shape=(12 * grid[0], 16 * grid[1]), pad_shape=(12 * grid[0], 16 * grid[1]),
                batch_input_shape=(16 * grid[0], 16 * grid[1]), scale_factor=(0.8 * horizontal, 0.6 * vertical))


@detectors
def test_on_a_coarse_grid_an_image_of_whole_base_patches_is_seen_by_the_stock_detector(config):
    model = untuned(config).eval()
    stock = MODELS.build(config(backbone=dict(kernel_sizes=(16, ), kernel_policy='constant'))).eval()
    stock.load_state_dict({name: value for name, value in model.state_dict().items() if '.kernels.' not in name})
    image = noise(1, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        (expected, ) = stock.predict(image, [sample((32, 32))])
        with model.mspe_layer.force_grid(COARSE):
            (found, ) = model.predict(image, [sample((32, 32))])
    assert_alike(found, expected)


@detectors
def test_a_small_image_on_a_coarse_grid_has_the_frame_of_the_grid(config):
    model = build(config).eval()
    layer, image = model.mspe_layer, noise(1, 3, 16, 16, dtype=torch.float32)
    with torch.no_grad(), layer.force_grid(COARSE):
        (found, ) = model.predict(image, [sample((16, 16))])
        features = model.extract_feat(image)
        assert features[0].shape[-2:] == (8, 8)
        framed = image.new_zeros(1, 3, 32, 32)
        with _known.set((framed, features)):
            (expected, ) = model.predict(framed, [sample((32, 32))])
    assert_alike(found, expected)


def test_annotations_follow_the_frame():
    model = build(mask_rcnn)
    layer, samples = model.mspe_layer, annotated(model)['data_samples']
    before = copy.deepcopy(samples)
    assert annotations_in_frame(layer, (32, 32), samples) is samples
    with layer.force_grid((2, 3)):
        found = annotations_in_frame(layer, (16, 24), samples)
        assert annotations_in_frame(layer, (64, 64), samples)[0].img_shape == (32, 48)    # as from a stand-in
    for one, own, old in zip(found, samples, before):
        assert one.img_shape == one.pad_shape == one.batch_input_shape == (32, 48)
        torch.testing.assert_close(one.gt_instances.bboxes, own.gt_instances.bboxes * torch.tensor([0.75, 0.5, 0.75, 0.5]))
        assert one.gt_instances.masks.masks.shape[1:] == (32, 48)
        assert one.gt_instances.labels is own.gt_instances.labels
        assert own.img_shape == old.img_shape == (64, 64)
        assert torch.equal(own.gt_instances.bboxes, old.gt_instances.bboxes)
        assert own.gt_instances.masks.masks.shape[1:] == (64, 64)


@pytest.mark.parametrize('config', [mask_rcnn, fcos, retinanet])
@pytest.mark.parametrize('way', ['a coarse grid', 'tokens that follow the image'])
def test_losses_are_those_of_the_stock_detector_on_images_and_annotations_of_half_the_size(config, way):
    coarse = way == 'a coarse grid'
    model = untuned(config, **({} if coarse else dict(backbone=dict(kernel_policy='constant'), resolutions=[32])))
    stock = MODELS.build(config(backbone=dict(kernel_sizes=(16, ), kernel_policy='constant')))
    stock.load_state_dict({name: value for name, value in model.state_dict().items() if '.kernels.' not in name})
    data = annotated(model)
    small, halved = data['inputs'][..., ::2, ::2], copy.deepcopy(data['data_samples'])
    for one in halved:
        one.gt_instances.bboxes *= 0.5
        one.gt_instances.masks = one.gt_instances.masks.resize((32, 32))
        one.set_metainfo(dict(img_shape=(32, 32), pad_shape=(32, 32), batch_input_shape=(32, 32)))
    with torch.no_grad(), model.mspe_layer.force_grid(COARSE if coarse else None):
        torch.manual_seed(0)
        found = model.host_losses(small, data['data_samples'])
        torch.manual_seed(0)
        expected = super(TunedModel, stock).loss(small, halved)
    torch.testing.assert_close(found, expected)


def test_the_teacher_of_another_grid_is_the_stock_detector_on_that_grid():
    model = untuned(mask_rcnn)
    layer, images = model.mspe_layer, noise(2, 3, 64, 64, dtype=torch.float32)
    loss = distillation_loss(layer, images, model.outputs, model.distance, teacher_follows_grid=model.teacher_follows_grid)
    half, quarter = (layer.downsampling.resize(images, (size, size)) for size in (32, 16))
    with torch.no_grad(), layer.force_grid(COARSE):
        assert loss(half)['loss_distill'] == 0
        with layer.embedding_each(half.split(1)):
            torch.testing.assert_close(loss(layer.stand_in(half.split(1)))['loss_distill'], torch.tensor(0.))
        assert loss(quarter)['loss_distill'] > 0


@pytest.mark.parametrize('tuning', [dict(type='MixedResolutionObjective', objective='both'),
                                    dict(type='MixedResolutionObjective', objective='distill'),
                                    dict(type='MultiResolutionObjective')])
def test_the_kernels_of_all_grids_are_tuned_and_nothing_else(tuning):
    torch.manual_seed(0)
    model = lively(MODELS.build(fcos(tuning=tuning, **GRIDS))).train()
    data = annotated(model, 4)
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
    data = annotated(model)
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
            assert_alike(one, expected)


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
