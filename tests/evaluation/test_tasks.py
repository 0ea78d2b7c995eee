"""A config finds the module of its task."""
import pytest

from mspe_mm.errors import InputError
from mspe_mm.evaluation import classification, detection, segmentation
from mspe_mm.evaluation.tasks import task_of


def test_the_scope_names_the_task():
    assert task_of(dict(default_scope='mmseg')) is segmentation
    assert task_of(dict(default_scope='mmdet')) is detection
    assert task_of(dict(default_scope='mmengine')) is classification


@pytest.mark.parametrize('task', [segmentation, detection, classification])
def test_every_task_answers_the_same_questions(task):
    assert set(task.HEADLINE_METRICS) <= set(task.TABLE_METRICS)
    for name in ('evaluator_config', 'read_metrics', 'batch_size', 'scaled_inference'):
        assert callable(getattr(task, name))


@pytest.mark.parametrize('config', [{}, dict(default_scope='mmpose')])
def test_other_scopes_are_refused(config):
    with pytest.raises(InputError, match=r"default_scope is .*, and .* evaluation is for 'mmseg', 'mmdet', 'mmengine'"):
        task_of(config)
