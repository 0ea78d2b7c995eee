"""Plot a metric against GFLOP for sweeps over token grids, a panel for each, as in docs/token_budgets.md:

    python scripts/plot_budgets.py budgets.png 'box AP' SWEEP [SWEEP ...]

A SWEEP is the output folder of tools/eval_multiscale.py with --token-grid.
"""
import json
import sys
from pathlib import Path

from mspe_mm.evaluation.report import figure_of
from mspe_mm.evaluation.token_budgets import trade_off_panel


def main():
    out, metric, *folders = sys.argv[1:]
    with figure_of(out, len(folders)) as panels:
        for axes, folder in zip(panels, folders):
            results = json.loads((Path(folder) / 'results.json').read_text())
            trade_off_panel(axes, results, metric, 'gflops')
            axes.set_title('{} × {} px'.format(*results['input_resolution']))


if __name__ == '__main__':
    main()
