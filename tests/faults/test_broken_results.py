"""Every results.json that is broken is refused by --resume in one sentence, and left as it is."""
import copy
import json

import pytest

from mspe_mm.errors import InputError
from mspe_mm.evaluation.rows import collect_rows

HEADER = dict(dataset='camvid', images=4, config='c.py', checkpoint='x.pth', adapter='a.safetensors', calibrated=None,
              finetuned=None, training_seconds=dict(mspe=1.5), degrade=None, reference_resolution=[64, 64], bootstrap=0,
              precision='float32', digests=dict(model='1', weights='2'))
ROW = dict(method='mspe', resolution=[16, 16], token_grid=[4, 4], kernel_size=[4, 4], trained_parameters=5,
           metrics=dict(mIoU=50., mAcc=None), intervals=dict(mIoU=[49., 51.]), images_per_second=2.5, digest='3')
WHOLE = dict(HEADER, rows=[ROW, dict(ROW, resolution=[32, 32])])
TEXT = json.dumps(WHOLE)


def with_row(**changes):
    """The file with a changed first row; a value of ... removes the entry."""
    row = {name: value for name, value in {**ROW, **changes}.items() if value is not ...}
    return json.dumps(dict(WHOLE, rows=[row, *WHOLE['rows'][1:]]))


def with_header(**changes):
    """The file with a changed header; a value of ... removes the entry."""
    return json.dumps({name: value for name, value in {**WHOLE, **changes}.items() if value is not ...})


BROKEN = {
    'empty': '',
    'binary': bytes(range(256)),
    'utf16': TEXT.encode('utf-16'),
    'nan': TEXT.replace('50.0', 'NaN'),
    'infinity': TEXT.replace('50.0', '-Infinity'),
    'huge number': TEXT.replace('50.0', '1e999'),
    'too many digits': TEXT.replace('50.0', '9' * 5000),
    'deep': '[' * 100_000,
    'twice': TEXT + TEXT,
    **{f'cut at {share:.0%}': TEXT[:int(len(TEXT) * share)] for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    **{f'file is {value!r}': json.dumps(value) for value in (None, [], 'text', 3, {}, [WHOLE])},
    **{f'rows is {value!r}': with_header(rows=value) for value in (..., None, {}, 'rows', 3, [None], ['row'], [[]], [{}])},
    **{f'row without {name}': with_row(**{name: ...}) for name in
       ('method', 'resolution', 'token_grid', 'kernel_size', 'metrics', 'images_per_second')},
    **{f'{name} is {value!r}': with_row(**{name: value}) for name, values in dict(
        method=[None, 3, ['mspe']], resolution=[None, 16, [16], [16, 16, 3], ['16', '16'], [0, 16], [1.5, 2], {}],
        token_grid=['4 x 4', [4, None]], kernel_size=[4, [True, True]], trained_parameters=['five', -1],
        metrics=[None, [], 'mIoU', dict(mIoU='50'), dict(mIoU=[50])], intervals=[[], dict(mIoU=50), dict(mIoU=[1])],
        images_per_second=['fast', None], digest=[3, None], failure=[3], gflops=['many']).items() for value in values},
    **{f'header has {name}={value!r}': with_header(**{name: value}) for name, values in dict(
        digests=[..., None, 'text', [], dict(model='1')], adapter=[3], training_seconds=[3, dict(mspe='long')],
        images=[None, '4'], reference_resolution=[None]).items() for value in values},
    'row twice': with_header(rows=[ROW, ROW]),
}


def resume(out, points=(('mspe', (16, 16)), ('vanilla', (64, 64)))):
    measured = []

    def measure(method, size):
        measured.append((method, size))
        return dict(copy.deepcopy(ROW), method=method, resolution=list(size))

    results = collect_rows(list(points), measure, 'resolution', out, HEADER, ['mIoU'], resume=True, digests=dict(mspe='3'))
    return results, measured


def test_the_file_that_is_broken_here_can_be_resumed_when_it_is_whole(tmp_path):
    (tmp_path / 'results.json').write_text(TEXT)
    results, measured = resume(tmp_path)
    assert measured == [('vanilla', (64, 64))]
    assert results['rows'][:2] == WHOLE['rows']


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_results_file_is_refused_in_one_sentence_and_left_as_it_is(tmp_path, name):
    contents = BROKEN[name] if isinstance(BROKEN[name], bytes) else BROKEN[name].encode()
    path = tmp_path / 'results.json'
    path.write_bytes(contents)
    with pytest.raises(InputError, match=r'results\.json cannot be resumed') as error:
        resume(tmp_path)
    assert '\n' not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ['results.json']
    assert path.read_bytes() == contents


def test_a_folder_in_the_place_of_the_results_file_is_refused(tmp_path):
    (tmp_path / 'results.json').mkdir()
    with pytest.raises(InputError, match='cannot be resumed'):
        resume(tmp_path)
