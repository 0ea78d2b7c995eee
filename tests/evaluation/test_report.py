"""One set of results as a table, JSON and a figure."""
import json

import cv2
import pytest
from matplotlib.axes import Axes

from mspe_mm.evaluation.report import cost_table, metric_table, plot_curves, save_json, write_report


def row(method, resolution, value, **extra):
    return dict(method=method, resolution=list(resolution), metrics=dict(mIoU=value, aAcc=90.), images_per_second=2.5,
                token_grid=[4, 4], kernel_size=[4, 4], **extra)


@pytest.fixture
def results():
    rows = [row('vanilla', (64, 64), 50.), row('vanilla', (16, 16), float('nan')),
            row('mspe', (64, 64), 50., intervals=dict(mIoU=[48.04, 52.])), row('mspe', (16, 16), 45.678)]
    return dict(dataset='some set', images=7, reference_resolution=[64, 64], rows=rows)


def test_a_table_has_a_row_a_method_and_a_column_a_resolution(results):
    table = metric_table(results['rows'], 'mIoU')
    assert table.field_names == ['mIoU', '16 x 16', '64 x 64']
    assert table.rows == [['vanilla', '-', '50.00'], ['mspe', '45.68', '50.00 [48.0, 52.0]']]


def test_each_method_has_its_cost_where_it_is_known(results, tmp_path):
    rows = [dict(row, trained_parameters=1_108_992 if row['method'] == 'mspe' else 0) for row in results['rows']]
    table = cost_table(rows, dict(mspe=61.5))
    assert table.field_names == ['method', 'trained parameters', 'training time (s)']
    assert table.rows == [['vanilla', '0', '-'], ['mspe', '1,108,992', '62']]
    write_report(dict(results, rows=rows, training_seconds=dict(mspe=61.5)), tmp_path, ['mIoU'], ['mIoU'])
    assert '1,108,992' in (tmp_path / 'table.md').read_text()


def test_what_a_model_cannot_run_is_a_dash_with_the_reason_and_no_point(results, tmp_path):
    failed = dict(row('vanilla', (8, 8), 0.), metrics={}, images_per_second=None, failure='too few tokens')
    rows = [*results['rows'], failed]
    assert metric_table(rows, 'mIoU').rows[0] == ['vanilla', '-', '-', '50.00']
    text = write_report(dict(results, rows=rows), tmp_path, ['mIoU'], ['mIoU'])
    assert 'vanilla at 8 x 8: the model cannot run (too few tokens)' in text
    assert 'too few tokens' in (tmp_path / 'table.md').read_text()
    # A method that runs nowhere.
    write_report(dict(results, rows=[dict(failed, method='finetuned'), *results['rows']]), tmp_path, ['mIoU'], ['mIoU'])


def test_curves_leave_out_what_was_not_measured(results, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, 'plot', lambda self, x, y, **kwargs: drawn.append((x, y)))
    plot_curves(results, tmp_path / 'curve.png', ['mIoU'])
    assert drawn == [([1], [50.]), ([0, 1], [45.678, 50.])]    # vanilla is NaN at 16 x 16


def test_a_report_of_rows_that_all_cannot_run_has_no_figures(results, tmp_path):
    rows = [dict(row('vanilla', (8, 8), 0.), metrics={}, images_per_second=None, failure='too few tokens')]
    assert 'cannot run (too few tokens)' in write_report(dict(results, rows=rows), tmp_path, ['mIoU'], ['mIoU'])
    assert (tmp_path / 'curve.png').is_file()


def test_json_holds_null_for_what_is_no_number(results, tmp_path):
    save_json(results, tmp_path / 'results.json')
    rows = json.loads((tmp_path / 'results.json').read_text())['rows']
    assert rows[1]['metrics']['mIoU'] is None
    assert rows[3]['metrics']['mIoU'] == 45.678


def test_a_report_is_three_files(results, tmp_path):
    text = write_report(results, tmp_path / 'new', ['mIoU'], ['mIoU', 'aAcc', 'not measured'])
    assert '45.68' in text
    assert 'not measured' not in text
    assert sorted(path.name for path in (tmp_path / 'new').iterdir()) == ['curve.png', 'results.json', 'table.md']
    markdown = (tmp_path / 'new/table.md').read_text()
    assert 'some set, 7 images, base resolution 64 x 64' in markdown
    assert '| mspe    |' in markdown
    assert cv2.imread(str(tmp_path / 'new/curve.png')).std() > 0


def test_a_report_can_be_made_of_resumed_rows(results, tmp_path):
    save_json(results, tmp_path / 'results.json')
    resumed = json.loads((tmp_path / 'results.json').read_text())
    assert '-' in write_report(resumed, tmp_path, ['mIoU'], ['mIoU', 'aAcc'])


def test_each_headline_metric_has_a_table_and_a_panel(results, tmp_path):
    text = write_report(results, tmp_path / 'two', ['mIoU', 'aAcc'], ['mIoU', 'aAcc'])
    headers = [line.split()[1] for line in text.splitlines() if '16 x 16 |' in line]
    assert headers[:2] == ['mIoU', 'aAcc']
    write_report(results, tmp_path / 'one', ['mIoU'], ['mIoU', 'aAcc'])
    widths = [cv2.imread(str(tmp_path / name / 'curve.png')).shape[1] for name in ('one', 'two')]
    assert widths[1] == 2 * widths[0]
