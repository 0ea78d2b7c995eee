"""The figure of sweeps over token grids."""
import json
import subprocess
import sys

import matplotlib.image
import pytest
from matplotlib.figure import Figure
from tools_helpers import ROOT

from mspe_mm.evaluation.report import LABELS
from mspe_mm.evaluation.token_budgets import trade_off_panel


def sweep(resolution):
    rows = [dict(method=method, token_grid=[n, n + 1], gflops=n * n / 10, images_per_second=100 / n, metrics=dict(mIoU=iou))
            for method, values in (('img_resize', (30., 20.)), ('prior', (35., 28.))) for n, iou in zip((8, 4), values)]
    rows.append(dict(method='vanilla', token_grid=[2, 3], gflops=None, images_per_second=None, metrics={}, failure='small'))
    return dict(dataset='streets', input_resolution=[resolution, resolution], rows=rows)


@pytest.mark.parametrize(('cost', 'expected'), [('gflops', [1.6, 6.4]), ('images_per_second', [12.5, 25.])])
def test_a_panel_has_a_line_for_each_method_in_order_of_cost(cost, expected):
    axes = Figure().subplots()
    trade_off_panel(axes, sweep(60), 'mIoU', cost)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == [LABELS['img_resize'], LABELS['prior']]    # and none of the method that cannot run
    assert list(lines[LABELS['prior']].get_xdata()) == pytest.approx(expected)
    assert list(lines[LABELS['prior']].get_ydata()) == ([28., 35.] if cost == 'gflops' else [35., 28.])
    assert [text.get_text() for text in axes.texts] == (['4×5', '8×9'] if cost == 'gflops' else ['8×9', '4×5'])


def test_a_script_draws_a_panel_for_each_sweep(tmp_path):
    for resolution in (30, 60):
        folder = tmp_path / str(resolution)
        folder.mkdir()
        (folder / 'results.json').write_text(json.dumps(sweep(resolution)))
    script = [sys.executable, ROOT / 'scripts/plot_budgets.py', tmp_path / 'budgets.png', 'mIoU']
    subprocess.run([*script, tmp_path / '30', tmp_path / '60'], cwd=ROOT, check=True)
    one = tmp_path / 'one.png'
    subprocess.run([*script[:2], one, 'mIoU', tmp_path / '60'], cwd=ROOT, check=True)
    two_panels, panel = (matplotlib.image.imread(path).shape for path in (tmp_path / 'budgets.png', one))
    assert two_panels[:2] == (panel[0], 2 * panel[1])
