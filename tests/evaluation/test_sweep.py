"""A sweep saves every row and takes up where it stopped."""
import json
from types import SimpleNamespace

import pytest

from mspe_mm.errors import InputError
from mspe_mm.evaluation import sweep as module

HEADER = dict(config='c.py', checkpoint='x.pth', reference_resolution=[64, 64])
SIZES = [(16, 16), (64, 64)]


@pytest.fixture
def evaluated(monkeypatch):
    """What was evaluated; a method called 'broken' fails."""
    calls = []

    def evaluate(runner, method, resolution, bootstrap):
        if method == 'broken':
            raise KeyboardInterrupt
        calls.append((method, resolution))
        return dict(method=method, resolution=list(resolution), metrics=dict(mIoU=1.), images_per_second=1.)

    monkeypatch.setattr(module, 'evaluate', evaluate)
    return calls


def sweep(methods, out, **kwargs):
    runner = SimpleNamespace(cfg=dict(default_scope='mmseg'))
    return module.sweep(runner, methods, SIZES, out, kwargs.pop('header', HEADER), **kwargs)


def test_rows_come_in_order_and_the_file_holds_them(evaluated, tmp_path):
    results = sweep(['vanilla', 'mspe'], tmp_path)
    assert [(row['method'], tuple(row['resolution'])) for row in results['rows']] == evaluated
    assert json.loads((tmp_path / 'results.json').read_text()) == results


def test_an_interrupted_sweep_continues_where_it_stopped(evaluated, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(['vanilla', 'broken'], tmp_path)
    assert len(json.loads((tmp_path / 'results.json').read_text())['rows']) == 2
    evaluated.clear()
    results = sweep(['vanilla', 'mspe'], tmp_path, resume=True)
    assert evaluated == [('mspe', size) for size in SIZES]
    assert len(results['rows']) == 4


def test_without_resume_everything_is_done_again(evaluated, tmp_path):
    sweep(['vanilla'], tmp_path)
    sweep(['vanilla'], tmp_path)
    assert len(evaluated) == 4


def test_results_of_another_checkpoint_are_not_continued(evaluated, tmp_path):
    sweep(['vanilla'], tmp_path)
    with pytest.raises(InputError, match=r'its checkpoint is x\.pth, and this run has y\.pth'):
        sweep(['vanilla'], tmp_path, resume=True, header=dict(HEADER, checkpoint='y.pth'))


def test_a_damaged_file_is_not_continued(evaluated, tmp_path):
    (tmp_path / 'results.json').write_text('{"rows": [')
    with pytest.raises(InputError, match='cannot be resumed, it is damaged'):
        sweep(['vanilla'], tmp_path, resume=True)
