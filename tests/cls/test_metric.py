"""Accuracy is timm's."""
import numpy as np
import pytest
import torch
from timm.utils import accuracy

from mspe_mm.cls import TopKAccuracy
from mspe_mm.errors import InputError


def run(metric, scores, labels):
    metric.dataset_meta = dict(classes=tuple(range(scores.shape[1])))
    metric.process({}, [dict(pred_score=row, gt_label=int(label)) for row, label in zip(scores, labels)])
    return metric.evaluate(len(labels))


def test_accuracy_equals_timms():
    scores, labels = torch.randn(50, 7), torch.randint(0, 7, (50, ))
    ours = run(TopKAccuracy(topk=(1, 3)), scores, labels)
    assert list(ours.values()) == pytest.approx([float(value) for value in accuracy(scores, labels, topk=(1, 3))], abs=1e-4)


def test_a_model_that_tells_nothing_apart_is_as_good_as_chance():
    metrics = run(TopKAccuracy(topk=(1, 2)), torch.zeros(8, 4), torch.arange(8) % 4)
    assert metrics == {'top-1': 25., 'top-2': 50.}


def test_scores_that_are_not_numbers_are_wrong():
    assert run(TopKAccuracy(topk=(1, )), torch.full((3, 4), float('nan')), torch.zeros(3)) == {'top-1': 0.}


def test_intervals_equal_a_plain_bootstrap():
    scores, labels = torch.randn(40, 3), torch.randint(0, 3, (40, ))
    metrics = run(TopKAccuracy(topk=(1, ), bootstrap=2000), scores, labels)
    low, high = metrics['intervals']['top-1']
    right = (scores.argmax(1) == labels).numpy()
    rng = np.random.default_rng(1)
    plain = [right[rng.integers(0, 40, 40)].mean() * 100 for _ in range(2000)]
    # Accuracies of 40 images are multiples of 2.5.
    assert [low, high] == pytest.approx(np.percentile(plain, (2.5, 97.5)), abs=2.5)
    assert low < metrics['top-1'] < high


def test_a_head_of_other_classes_is_refused():
    metric = TopKAccuracy()
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'd'))
    with pytest.raises(InputError, match=r'the head of the model has 2 classes, and the data set has 4 \(a, b, c, ...\)'):
        metric.process({}, [dict(pred_score=torch.zeros(2), gt_label=0)])
