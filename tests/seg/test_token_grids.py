"""Segmentors on other token grids: against the stock model, tuned by a teacher on the base grid, by resolution."""
import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import noise, randomize
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mspe_mm.seg  # noqa: F401
from mspe_mm.tuning.distillation import logit_distance

BASE, GRID, COARSE = (64, 96), (4, 6), (2, 3)


def build(segmentor='MSPEEncoderDecoder', backbone=None, **settings):
    init_default_scope('mmseg')
    own = dict(type='MSPEViT', kernel_sizes=(4, 8, 16), token_grids=[COARSE]) if backbone is None else backbone
    return randomize(MODELS.build(ConfigDict(
        type=segmentor, test_cfg=dict(mode='whole'), train_cfg=dict(),
        backbone=dict(img_size=BASE, embed_dims=16, num_layers=2, num_heads=2, out_indices=(1, ), **own),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=0, num_classes=5, num_convs=1, up_scale=4,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN')), **settings)))


def samples(sizes, **fields):
    return [SegDataSample(metainfo=dict(ori_shape=(70, 90), img_shape=size), **fields) for size in sizes]


def test_an_untrained_half_grid_is_the_stock_model_on_images_of_half_the_size():
    stock = build('EncoderDecoder', dict(type='VisionTransformer')).eval()
    model = build()
    model.load_state_dict(stock.state_dict(), strict=True)
    model.eval()
    images = noise(2, 3, 32, 48, dtype=torch.float32)
    with torch.no_grad(), model.mspe_layer.force_grid(COARSE):
        torch.testing.assert_close(model(images), stock(images), rtol=1e-4, atol=1e-5)
        assert model(images).shape == (2, 5, 8, 12)


@pytest.mark.parametrize('objective', ['distill', 'both', 'task'])
@pytest.mark.parametrize('type_', ['MixedResolutionObjective', 'MultiResolutionObjective'])
def test_the_kernels_of_all_grids_are_tuned_and_nothing_else(type_, objective):
    torch.manual_seed(0)
    model = build(tuning=dict(type=type_, objective=objective)).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    masks = [PixelData(data=torch.randint(5, (1, *BASE))) for _ in range(3)]
    annotated = [sample for mask in masks for sample in samples([BASE], gt_sem_seg=mask)]
    for _ in range(8):
        optimizer.zero_grad()
        losses = model.loss(noise(3, 3, *BASE, dtype=torch.float32), annotated)
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        optimizer.step()
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == {
        f'backbone.patch_embed.kernels.{name}' for name in model.mspe_layer.kernels.state_dict()}


def test_a_student_on_a_coarse_grid_is_compared_on_the_grid_of_the_teacher(monkeypatch):
    model = build(tuning=dict(type='MultiResolutionObjective', objective='distill', sampling='native'), )
    model.train()
    layer, images = model.mspe_layer, noise(2, 3, *BASE, dtype=torch.float32)
    with torch.no_grad():
        losses = model.loss(images, samples([BASE] * 2))
        with layer.pretrained_only():
            teacher = model.outputs(images).compared
        small = layer.downsampling.resize(images, (16, 24))
        with layer.force_grid(COARSE):
            student = model.outputs(small).compared
    assert (student.shape[-2:], teacher.shape[-2:]) == ((8, 12), (16, 24))
    resized = F.interpolate(student, (16, 24), mode='bilinear', align_corners=False)
    torch.testing.assert_close(losses['k8g2x3.loss_distill'], logit_distance(resized, teacher), rtol=1e-4, atol=1e-6)


def test_images_on_several_grids_are_predicted_in_a_pass_for_each():
    model = build().eval()
    model.mspe_layer.budgets = {(16, 24): COARSE, (32, 48): COARSE}
    sizes = [(64, 96), (16, 24), (30, 48), (60, 90), (16, 24)]
    images = [noise(1, 3, *size, dtype=torch.float32, seed=index) for index, size in enumerate(sizes)]
    passes = []
    model.backbone.layers[0].register_forward_hook(lambda module, inputs, out: passes.append(tuple(out.shape[:2])))
    with torch.no_grad():
        found = model(images, samples(sizes), mode='predict')
        assert passes == [(2, 1 + 24), (3, 1 + 6)]
        for index, (sample, image, alone) in enumerate(zip(found, images, samples(sizes))):
            (expected, ) = model.predict(image, [alone])
            assert passes.pop() == (1, 7 if index in (1, 2, 4) else 25)
            torch.testing.assert_close(sample.seg_logits.data, expected.seg_logits.data, rtol=1e-4, atol=1e-4)


def test_at_the_base_resolution_budgets_change_nothing():
    model, images = build().eval(), noise(1, 3, *BASE, dtype=torch.float32)
    with torch.no_grad():
        before = model(images)
        model.mspe_layer.budgets = {(16, 24): COARSE}
        assert torch.equal(model(images), before)
