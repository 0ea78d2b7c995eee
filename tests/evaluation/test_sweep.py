"""A sweep saves every row, and continues only its own run."""
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mspe_mm.errors import InputError
from mspe_mm.evaluation import sweep as module

HEADER = dict(config='c.py', checkpoint='x.pth', bootstrap=0, digests=dict(model='1', weights='2'))
SIZES = [(16, 16), (64, 64)]


@pytest.fixture
def evaluated(monkeypatch):
    """What was evaluated; a method called 'broken' is interrupted."""
    calls = []

    def evaluate(runner, method, resolution, bootstrap):
        if method == 'broken':
            raise KeyboardInterrupt
        calls.append((method, resolution))
        return dict(method=method, resolution=list(resolution), metrics=dict(mIoU=1.), images_per_second=1.,
                    token_grid=[4, 4], kernel_size=[4, 4])

    monkeypatch.setattr(module, 'evaluate', evaluate)
    return calls


def sweep(methods, out, sizes=SIZES, header=HEADER, **kwargs):
    runner = SimpleNamespace(cfg=dict(default_scope='mmseg'))
    return module.sweep(runner, methods, sizes, out, header, **kwargs)


def saved(out):
    return points(json.loads((out / 'results.json').read_text()))


def points(results):
    return [(row['method'], tuple(row['resolution'])) for row in results['rows']]


def test_sweep_saves_rows_in_order(evaluated, tmp_path):
    results = sweep(['vanilla', 'mspe'], tmp_path)
    assert points(results) == evaluated
    assert json.loads((tmp_path / 'results.json').read_text()) == results


def test_resume_continues_where_a_sweep_stopped(evaluated, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(['vanilla', 'broken'], tmp_path)
    assert saved(tmp_path) == [('vanilla', size) for size in SIZES]
    evaluated.clear()
    results = sweep(['vanilla', 'mspe'], tmp_path, resume=True)
    assert evaluated == [('mspe', size) for size in SIZES]
    assert points(results) == [(method, size) for method in ('vanilla', 'mspe') for size in SIZES]


def test_resume_keeps_all_rows_when_it_is_interrupted_again(evaluated, tmp_path):
    sweep(['vanilla', 'mspe'], tmp_path)
    before = saved(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep(['flexivit', 'broken', 'vanilla'], tmp_path, resume=True)
    assert saved(tmp_path) == [*before, *(('flexivit', size) for size in SIZES)]


def test_resume_keeps_rows_that_were_not_asked_for_beside_those_of_their_method(evaluated, tmp_path):
    sweep(['vanilla', 'mspe'], tmp_path)
    evaluated.clear()
    results = sweep(['vanilla'], tmp_path, [(32, 32)], resume=True)
    assert evaluated == [('vanilla', (32, 32))]
    assert points(results) == [*(('vanilla', size) for size in (*SIZES, (32, 32))), *(('mspe', size) for size in SIZES)]
    assert saved(tmp_path) == points(results)


def test_resume_measures_the_rows_of_a_new_adapter_alone(evaluated, tmp_path, capsys):
    sweep(['vanilla', 'mspe'], tmp_path, header=dict(HEADER, training_seconds=dict(mspe=1.)), digests=dict(mspe='a'))
    evaluated.clear()
    results = sweep(['vanilla', 'mspe'], tmp_path, resume=True, header=dict(HEADER, training_seconds=dict(mspe=2.)),
                    digests=dict(mspe='b'))
    assert evaluated == [('mspe', size) for size in SIZES]
    assert [row.get('digest') for row in results['rows']] == [None, None, 'b', 'b']
    assert results['training_seconds'] == dict(mspe=2.)
    assert '2 rows of mspe are dropped, they were measured with another adapter' in capsys.readouterr().out


def test_resume_drops_rows_of_another_adapter_at_resolutions_that_were_not_asked_for(evaluated, tmp_path):
    sweep(['mspe'], tmp_path, digests=dict(mspe='a'))
    results = sweep(['mspe'], tmp_path, [(32, 32)], resume=True, digests=dict(mspe='b'))
    assert points(results) == [('mspe', (32, 32))]


def test_resume_without_an_adapter_keeps_the_tuned_rows_and_their_source(evaluated, tmp_path):
    sweep(['mspe'], tmp_path, header=dict(HEADER, adapter='a.safetensors', training_seconds=dict(mspe=3.)),
          digests=dict(mspe='a'))
    results = sweep(['vanilla'], tmp_path, resume=True, header=dict(HEADER, adapter=None, training_seconds=None))
    assert [row.get('digest') for row in results['rows']] == ['a', 'a', None, None]
    assert (results['adapter'], results['training_seconds']) == ('a.safetensors', dict(mspe=3.))


def test_sweep_without_resume_measures_everything_again(evaluated, tmp_path):
    sweep(['vanilla'], tmp_path)
    sweep(['vanilla'], tmp_path)
    assert len(evaluated) == 4


@pytest.mark.parametrize(('header', 'sentence'), [
    (dict(HEADER, digests=dict(model='1', weights='3')), r'with other settings or weights \(weights\)'),
    (dict(HEADER, digests=dict(model='0', weights='2')), r'with other settings or weights \(model\)'),
    (dict(HEADER, bootstrap=10), 'its bootstrap is 0, and this run has 10'),
    (dict(HEADER, input_resolution=[64, 64]), 'its input_resolution is None, and this run has'),
])
def test_resume_refuses_results_of_another_run(evaluated, tmp_path, header, sentence):
    sweep(['vanilla'], tmp_path)
    before = (tmp_path / 'results.json').read_text()
    with pytest.raises(InputError, match=sentence):
        sweep(['mspe'], tmp_path, resume=True, header=header)
    assert (tmp_path / 'results.json').read_text() == before


def test_resume_takes_the_same_contents_under_another_name(evaluated, tmp_path):
    sweep(['vanilla'], tmp_path)
    results = sweep(['vanilla'], tmp_path, resume=True, header=dict(HEADER, checkpoint='renamed.pth'))
    assert len(evaluated) == 2
    assert results['checkpoint'] == 'renamed.pth'


def test_resume_refuses_results_of_an_earlier_version(evaluated, tmp_path):
    old = {name: value for name, value in HEADER.items() if name != 'digests'}
    sweep(['vanilla'], tmp_path, header=old)
    with pytest.raises(InputError, match='an earlier version wrote it, without the digests'):
        sweep(['vanilla'], tmp_path, resume=True)


@pytest.mark.parametrize(('methods', 'sizes', 'repeated'), [
    (['mspe', 'vanilla', 'mspe'], SIZES, 'mspe at 16 x 16'), (['mspe'], [(8, 8), (16, 16), (8, 8)], 'mspe at 8 x 8')])
def test_sweep_refuses_repeated_methods_and_resolutions_before_it_runs(evaluated, tmp_path, methods, sizes, repeated):
    with pytest.raises(InputError, match=f'{repeated} is given twice'):
        sweep(methods, tmp_path, sizes)
    assert not evaluated


def test_importing_the_sweep_imports_no_host_and_no_opencv():
    code = ("import sys; sys.modules.update(dict.fromkeys(['cv2', 'mmcv', 'mmseg', 'mmdet', 'timm'])); "
            'import mspe_mm.evaluation.sweep')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
