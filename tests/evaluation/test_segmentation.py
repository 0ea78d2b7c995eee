"""Evaluators and sliding windows of segmentors in the sweep."""
from mmengine.config import ConfigDict

from mspe_mm.evaluation.segmentation import evaluator_config, scaled_inference


def test_evaluator_config_replaces_only_iou_metrics():
    config = evaluator_config([dict(type='IoUMetric', prefix='x'), dict(type='Other')], 5)
    assert config[0] == dict(type='BootstrapIoUMetric', prefix='x', iou_metrics=['mIoU', 'mFscore'], bootstrap=5)
    assert config[1] == dict(type='Other')


class Model:
    def __init__(self, **test_cfg):
        self.test_cfg = ConfigDict(test_cfg)


def test_scaled_inference_scales_sliding_windows_and_restores_them():
    model = Model(mode='slide', crop_size=(512, 512), stride=(341, 341))
    with scaled_inference(model, (0.25, 0.5)):
        assert model.test_cfg.crop_size == (128, 256)
        assert model.test_cfg.stride == (85, 170)
        assert model.test_cfg.mode == 'slide'
    assert model.test_cfg.crop_size == (512, 512)


def test_scaled_inference_leaves_whole_images_alone():
    model = Model(mode='whole')
    with scaled_inference(model, (0.25, 0.25)):
        assert model.test_cfg == dict(mode='whole')
