"""One pass a step in the models of the three hosts."""
import copy

import pytest
import torch
from det_helpers import fcos, lively, mask_rcnn
from helpers import noise, randomize
from mmdet.registry import MODELS as DETECTORS
from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from mmseg.registry import MODELS as SEGMENTORS
from mmseg.structures import SegDataSample

import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.cls import MSPEClassifier

IMAGES = 4


def tuning(objective):
    return dict(type='MixedResolutionObjective', objective=objective, sampling='partition')


def segmentor(objective):
    init_default_scope('mmseg')
    model = randomize(SEGMENTORS.build(ConfigDict(
        type='MSPEEncoderDecoder', tuning=tuning(objective), test_cfg=dict(mode='whole'), train_cfg=dict(),
        backbone=dict(type='MSPEViT', img_size=(64, 96), embed_dims=16, num_layers=2, num_heads=2, out_indices=(1, ),
                      drop_path_rate=0.5, with_cp=True),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=0, num_classes=5, num_convs=1, up_scale=4,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN')))))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(5, (1, 64, 96)))) for _ in range(IMAGES)]
    return model, dict(inputs=noise(IMAGES, 3, 64, 96, dtype=torch.float32), data_samples=samples), ['decode.loss_ce']


def detector(build, names):
    def of(objective):
        init_default_scope('mmdet')
        model = lively(DETECTORS.build(build(tuning=tuning(objective))))
        data = demo_mm_inputs(IMAGES, [(3, 64, 64)] * IMAGES, num_items=[2] * IMAGES, num_classes=3, with_mask=True)
        return model, model.data_preprocessor(data, training=True), names
    return of


def classifier(objective):
    init_default_scope('mmengine')
    model = randomize(MSPEClassifier('vit_tiny_patch16_224', tuning=tuning(objective),
                                     model_kwargs=dict(img_size=64, depth=1, num_classes=4)))
    samples = [BaseDataElement(gt_label=index % 4) for index in range(IMAGES)]
    return model, dict(inputs=noise(IMAGES, 3, 64, 64, dtype=torch.float32), data_samples=samples), ['loss']


hosts = pytest.mark.parametrize('host', [
    segmentor,
    detector(mask_rcnn, ['loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask']),
    detector(fcos, ['loss_cls', 'loss_bbox', 'loss_centerness']),
    classifier], ids=['segmentor', 'mask-rcnn', 'fcos', 'classifier'])


@hosts
@pytest.mark.parametrize(('objective', 'passes'), [('task', 1), ('distill', 2), ('both', 2), ('features', 2),
                                                      ('task+features', 2)])
def test_a_mixed_step_has_the_hosts_losses_and_moves_the_kernels_alone(host, objective, passes):
    model, data, names = host(objective)
    model.train()
    before, seen = copy.deepcopy(model.state_dict()), []
    model.mspe_layer.register_forward_hook(lambda _, inputs, out: seen.append(len(inputs[0])))
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))

    losses = model(**copy.deepcopy(data), mode='loss')
    # Each pass has the whole batch; the layer's own calls, a resolution each, lie inside of the last one.
    assert [count for count in seen if count == IMAGES] == [IMAGES] * passes
    assert {name for name in losses if 'loss' in name} == {
        *(names if objective not in ('distill', 'features') else []), *(['loss_distill'] if objective != 'task' else [])}

    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    wrapper.update_params(total)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    prefix = f'backbone.{model._layer_name}.kernels.'
    assert moved == {name for name in before if name.startswith(prefix)}


@hosts
@pytest.mark.parametrize('objective', ['distill', 'features', 'task+features'])
def test_the_teacher_sees_the_images_at_the_base_resolution(host, objective):
    model, data, _ = host(objective)
    model.train()
    with torch.no_grad():    # a student that is the teacher: the pretrained kernel at the base resolution
        layer = model.mspe_layer
        embedding_each = type(layer).embedding_each
        layer.embedding_each = lambda images, kernels: embedding_each(layer, data['inputs'].split(1))
        losses = model(**data, mode='loss')
    assert losses['loss_distill'].item() == pytest.approx(0, abs=1e-6)
