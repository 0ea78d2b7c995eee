"""Metrics are mmseg's own; intervals resample images."""
import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from mspe_mm.seg import BootstrapIoUMetric

META = dict(classes=('a', 'b', 'c'))


def samples(count, accuracy=0.7):
    rng = np.random.default_rng(0)
    for index in range(count):
        label = torch.from_numpy(rng.integers(0, 3, (1, 16, 16)))
        guess = torch.from_numpy(rng.integers(0, 3, (1, 16, 16)))
        right = torch.from_numpy(rng.random((1, 16, 16)) < accuracy * (index % 4) / 3)
        yield dict(pred_sem_seg=dict(data=torch.where(right, label, guess)), gt_sem_seg=dict(data=label))


def run(metric, count=20):
    metric.dataset_meta = META
    metric.process({}, list(samples(count)))
    return metric.evaluate(count)


def test_bootstrap_iou_metric_metrics_equal_the_hosts():
    host = run(IoUMetric(iou_metrics=['mIoU', 'mFscore']))
    ours = run(BootstrapIoUMetric(iou_metrics=['mIoU', 'mFscore'], bootstrap=50))
    intervals = ours.pop('intervals')
    assert ours == host
    assert set(intervals) == set(host)


def test_bootstrap_iou_metric_intervals_equal_a_plain_bootstrap_of_the_hosts_metric():
    bootstrap = 400
    metric = BootstrapIoUMetric(iou_metrics=['mIoU'], bootstrap=bootstrap)
    low, high = run(metric)['intervals']['mIoU']
    host = IoUMetric(iou_metrics=['mIoU'])
    host.dataset_meta = META
    host.process({}, list(samples(20)))
    rng = np.random.default_rng(1)
    plain = [host.compute_metrics([host.results[i] for i in rng.integers(0, 20, 20)])['mIoU'] for _ in range(bootstrap)]
    expected = np.percentile(plain, (2.5, 97.5))
    # Two bootstraps of 400 differ in their ends by about a tenth of the interval.
    assert np.abs(np.array([low, high]) - expected).max() < 0.2 * (expected[1] - expected[0])
    assert low < run(IoUMetric(iou_metrics=['mIoU']))['mIoU'] < high


def test_bootstrap_iou_metric_of_one_image_has_no_spread():
    metrics = run(BootstrapIoUMetric(iou_metrics=['mIoU'], bootstrap=10), count=1)
    assert metrics['intervals']['mIoU'] == pytest.approx([metrics['mIoU']] * 2, abs=0.005)    # the host rounds to 0.01
