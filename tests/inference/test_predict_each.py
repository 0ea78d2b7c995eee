"""Images of different sizes in one pass, against the same images one by one."""
import pytest
import torch
from det_helpers import mask_rcnn
from helpers import noise, randomize
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from mmseg.registry import MODELS as SEGMENTORS
from mmseg.structures import SegDataSample

import mspe_mm.cls
import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.cls import MSPEClassifier
from mspe_mm.errors import InputError

SIZES = [(64, 96), (16, 24), (32, 48), (16, 24), (8, 12), (48, 72)]


def images_of(sizes):
    return [noise(1, 3, *size, dtype=torch.float32, seed=index) for index, size in enumerate(sizes)]


def segmentor(**test_cfg):
    init_default_scope('mmseg')
    model = SEGMENTORS.build(ConfigDict(
        type='MSPEEncoderDecoder', test_cfg=test_cfg or dict(mode='whole'), train_cfg=dict(),
        backbone=dict(type='MSPEViT', img_size=(64, 96), embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1)),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=1, num_classes=5, num_convs=1, up_scale=4,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN'))))
    return randomize(model).eval()


def segmentation_samples(sizes):
    return [SegDataSample(metainfo=dict(ori_shape=(70, 90), img_shape=size)) for size in sizes]


@pytest.mark.parametrize('test_cfg', [dict(), dict(mode='slide', crop_size=(16, 24), stride=(8, 12))])
def test_predict_each_of_a_segmentor_is_predict_image_by_image(test_cfg):
    model, images = segmentor(**test_cfg), images_of(SIZES)
    with torch.no_grad():
        found = model.predict_each(images, segmentation_samples(SIZES))
        for sample, image, alone in zip(found, images, segmentation_samples(SIZES)):
            (expected, ) = model.predict(image, [alone])
            assert sample.pred_sem_seg.data.shape == (1, 70, 90)
            torch.testing.assert_close(sample.seg_logits.data, expected.seg_logits.data, rtol=1e-4, atol=1e-4)


def test_predict_each_makes_one_pass_through_the_encoder():
    model, seen = segmentor(), []
    model.backbone.layers[0].register_forward_hook(lambda module, inputs, out: seen.append(tuple(out.shape)))
    with torch.no_grad():
        model.predict_each(images_of(SIZES), segmentation_samples(SIZES))
    assert seen == [(6, 1 + 4 * 6, 16)]


def test_predict_each_of_a_detector_is_predict_image_by_image():
    init_default_scope('mmdet')
    model = randomize(DETECTORS.build(mask_rcnn())).eval()
    sizes = [(64, 64), (32, 32), (16, 16), (32, 32), (48, 48)]
    images = images_of(sizes)

    def samples():
        return [DetDataSample(metainfo=dict(img_shape=size, pad_shape=size, batch_input_shape=size, ori_shape=(40, 40),
                                            scale_factor=(size[1] / 40, size[0] / 40))) for size in sizes]
    with torch.no_grad():
        found = model.predict_each(images, samples())
        for sample, image, alone in zip(found, images, samples()):
            (expected, ) = model.predict(image, [alone])
            assert len(sample.pred_instances) == len(expected.pred_instances) > 0
            torch.testing.assert_close(sample.pred_instances.bboxes, expected.pred_instances.bboxes, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(sample.pred_instances.scores, expected.pred_instances.scores, rtol=1e-4, atol=1e-5)
            assert sample.metainfo['scale_factor'] == alone.metainfo['scale_factor']


def test_predict_each_of_a_classifier_is_predict_image_by_image():
    init_default_scope('mmengine')
    model = randomize(MSPEClassifier('vit_tiny_patch16_224', model_kwargs=dict(img_size=64, depth=1, num_classes=4))).eval()
    sizes = [(64, 64), (16, 16), (32, 32), (16, 16)]
    images = images_of(sizes)
    with torch.no_grad():
        found = model.predict_each(images, [BaseDataElement() for _ in sizes])
        for sample, image in zip(found, images):
            torch.testing.assert_close(sample.pred_score, model(image)[0].softmax(0), rtol=1e-4, atol=1e-5)


def test_predict_each_refuses_images_that_cannot_share_a_grid():
    model = segmentor()
    model.backbone.patch_embed.kernel_policy = 'constant'
    with pytest.raises(InputError, match=r'one token grid.*\(1, 2\).*\(4, 6\)'):
        model.predict_each(images_of(SIZES), segmentation_samples(SIZES))
