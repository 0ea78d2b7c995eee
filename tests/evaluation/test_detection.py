"""Figures are CocoMetric's own; what it leaves out is made explicit."""
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.det import MSPEDetDataPreprocessor
from mspe_mm.errors import InputError
from mspe_mm.evaluation.detection import (
    HEADLINE_METRICS,
    TABLE_METRICS,
    batch_size,
    evaluator_config,
    read_metrics,
    scaled_inference,
)

CONFIG = dict(type='CocoMetric', metric=['bbox', 'segm'])


def coco_metric(detect):
    """CocoMetric on one 80 x 80 px image with one object of 40 x 40 px, found or not."""
    metric = CocoMetric(metric=['bbox', 'segm'])
    metric.dataset_meta = dict(classes=('thing', ))
    box, mask = [20., 20., 60., 60.], np.zeros((1, 80, 80), dtype=bool)
    mask[:, 20:60, 20:60] = True
    keep = slice(0, int(detect))
    segments = dict(size=[80, 80], counts=_rle(mask[0]))
    instance = dict(bbox_label=0, bbox=box, ignore_flag=0, mask=segments)
    prediction = dict(bboxes=torch.tensor([box])[keep], scores=torch.ones(1)[keep],
                      labels=torch.zeros(1, dtype=torch.long)[keep], masks=torch.from_numpy(mask)[keep])
    metric.process({}, [dict(pred_instances=prediction, img_id=0, ori_shape=(80, 80), instances=[instance])])
    return metric.evaluate(1)


def _rle(mask):
    from pycocotools.mask import encode
    return encode(np.asfortranarray(mask.astype(np.uint8)))['counts']


def test_a_perfect_detection_has_an_ap_of_100_and_absent_sizes_have_none():
    found = read_metrics(coco_metric(True), CONFIG)
    assert tuple(found) == TABLE_METRICS
    for kind in ('box', 'mask'):
        assert [found[f'{kind} {name}'] for name in ('AP', 'AP50', 'AP75', 'APm')] == [100.] * 4
        assert math.isnan(found[f'{kind} APs'])
        assert math.isnan(found[f'{kind} APl'])


def test_no_detection_is_an_ap_of_zero_and_no_missing_row():
    metrics = coco_metric(False)
    assert metrics == {}    # what this is for
    assert read_metrics(metrics, CONFIG) == dict.fromkeys(TABLE_METRICS, 0.)


def test_a_detector_without_masks_has_box_figures_alone():
    found = read_metrics({'coco/bbox_mAP': 0.25}, dict(type='CocoMetric'))
    assert found['box AP'] == 25.
    assert not any('mask' in name for name in found)
    assert HEADLINE_METRICS[0] in found


def test_read_metrics_leaves_out_what_metric_items_does_not_measure():
    config = dict(type='CocoMetric', metric_items=['mAP', 'mAP_75'])
    assert read_metrics({'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_75': -1.}, config).keys() == {'box AP', 'box AP75'}
    assert read_metrics({}, config) == {'box AP': 0., 'box AP75': 0.}    # nothing is detected


def test_a_prefix_and_other_metrics_beside_it():
    config = [dict(type='DumpDetResults'), dict(type='CocoMetric', metric='segm', prefix='val')]
    assert evaluator_config(config, 0) is config
    assert read_metrics({'val/segm_mAP': 0.5, 'x': 1.}, config)['mask AP'] == 50.


@pytest.mark.parametrize(('config', 'bootstrap', 'sentence'), [
    (dict(type='VOCMetric'), 0, 'reads CocoMetric, and test_evaluator is VOCMetric'),
    (dict(CONFIG, format_only=True), 0, 'format_only=True, which measures nothing'),
    (CONFIG, 10, 'leave --bootstrap out'),
    (dict(CONFIG, metric_items=['mAP_50']), 0, 'add it to metric_items'),
    (dict(type='CocoMetric', metric='proposal'), 0, "set it to 'bbox'"),
])
def test_what_cannot_be_read_is_refused(config, bootstrap, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluator_config(config, bootstrap)


@pytest.mark.parametrize(('resolution', 'expected'), [((64, 64), (64, 64)), ((32, 32), (32, 32)), ((30, 30), (32, 32)),
                                                      ((32, 16), (32, 32)), ((100, 100), (100, 100))])
def test_the_batch_is_the_canvas(resolution, expected):
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.patch_embed = MultiScalePatchEmbed(3, 8, 16, 4, (4, 16))
    model.data_preprocessor = MSPEDetDataPreprocessor(img_size=64)
    assert batch_size(model, resolution) == expected
    image = torch.zeros(3, *resolution, dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=None))['inputs']
    assert tuple(batch.shape[-2:]) == expected


@pytest.mark.parametrize(('policy', 'expected'), [('fixed', (36, 36)), ('constant', (48, 48))])
def test_the_stock_patch_embedding_has_a_canvas_of_whole_patches(policy, expected):
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.patch_embed = MultiScalePatchEmbed(3, 8, 16, 4, (4, 16), kernel_policy=policy)
    model.data_preprocessor = MSPEDetDataPreprocessor(img_size=64)
    image = torch.zeros(3, 33, 20, dtype=torch.uint8)
    with scaled_inference(model, (0.5, 0.5)):
        batch = model.data_preprocessor(dict(inputs=[image], data_samples=None))['inputs']
        assert batch_size(model, (33, 20)) == batch.shape[-2:] == expected
    assert batch_size(model, (33, 20)) == (36, 36)


def test_other_preprocessors_have_no_canvas():
    assert batch_size(SimpleNamespace(data_preprocessor=None), (30, 40)) == (30, 40)
