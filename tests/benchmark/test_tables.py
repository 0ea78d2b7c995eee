"""Rows as tables and a figure."""
import copy

import cv2
import pytest

from mspe_mm.benchmark.tables import MEMORY, TIME, heading, table, write_report

ROW = dict(
    labels=dict(model='ViT-B', image='512 px'), candidate='ours', peer=False, tokens=1024,
    seconds=dict(median=0.25, q1=0.2, q3=0.3), samples=[0.2, 0.25, 0.3], ratio=None, images_per_second=4., flops=3 * 10**9,
    roofline=0.5, memory=dict(step=2**20, peak=3 * 2**20), memory_ratio=None, difference=None)
PEER = dict(
    ROW, candidate='theirs', peer=True, ratio=dict(median=0.5, q1=0.4, q3=0.625), memory_ratio=dict(step=0.25, peak=0.75),
    difference=dict(absolute=1e-6, relative=5e-7))
OUT_OF_MEMORY = {**dict.fromkeys(ROW), 'labels': ROW['labels'], 'candidate': 'naive', 'peer': True, 'tokens': 1024}


@pytest.fixture
def results():
    environment = dict(cpu='some CPU', torch='2.x', mmcv='2.y', mmseg=None, mmdet=None, timm=None)
    settings = dict(dtype='float32', compile=False, threads=3, repeats=7)
    return dict(case='backbone', environment=environment, settings=settings,
                rows=copy.deepcopy([ROW, PEER, OUT_OF_MEMORY]))


def test_a_table_has_a_row_a_candidate(results):
    found = table(results['rows'], TIME)
    assert found.field_names == ['model', 'image', 'candidate', 'tokens', 'time, ms', 'ours / this', 'images / s', 'GFLOP',
                                 'of the roof', 'difference', 'relative']
    assert found.rows[0][2:] == ['ours', 1024, '250 [200, 300]', '', '4.00', '3.00', '50%', '', '']
    assert found.rows[1][5] == '0.500 [0.400, 0.625]'
    assert found.rows[2][2:] == ['naive', 1024, 'out of memory', '', '', '', '', '', '']


def test_memory_has_its_own(results):
    found = table(results['rows'], MEMORY)
    assert found.rows[1][3:] == ['1.0', '0.250', '3.0', '0.750']


def test_what_was_not_measured_has_no_column(results):
    for row in results['rows']:
        row.update(memory=None, memory_ratio=None, flops=None, roofline=None)
    assert 'GFLOP' not in table(results['rows'], TIME).field_names
    assert table(results['rows'], MEMORY) is None


def test_a_report_is_three_files(results, tmp_path):
    text = write_report(results, tmp_path / 'new')
    assert 'theirs' in text
    assert 'peak, MiB' in text
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['figure.png', 'results.json', 'table.md']
    markdown = (tmp_path / 'new/table.md').read_text()
    assert markdown.startswith(heading(results) + '\n\n| model')
    assert cv2.imread(str(tmp_path / 'new/figure.png')).std() > 0


def test_comparisons_have_a_line_between_them_on_the_terminal_and_none_in_markdown(results, tmp_path):
    results['rows'] = 2 * results['rows']
    lines = write_report(results, tmp_path).splitlines()
    assert [line[:1] for line in lines].count('+') == 2 * 4    # two tables: above, below the head, between, at the end
    written = [line for line in (tmp_path / 'table.md').read_text().splitlines() if line.startswith('|')]
    assert [index for index, line in enumerate(written) if ':---' in line] == [1, 9]    # tables of one head and six rows


def test_the_heading_says_on_what(results):
    assert heading(results) == 'backbone, float32, 7 rounds, on some CPU, 3 threads, with torch 2.x, mmcv 2.y'
    results['environment']['gpu'] = 'some GPU'
    results['settings']['compile'] = True
    assert heading(results) == 'backbone, float32, compiled, 7 rounds, on some GPU, with torch 2.x, mmcv 2.y'
