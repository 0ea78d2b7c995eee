"""Accuracy and cost of token grids at one input resolution (FlexiViT)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from mmengine.runner import Runner
from prettytable import PrettyTable

from ..models.find import find_patch_embed
from ..tuning.token_grid_objective import tileable_size
from .methods import restores_image
from .report import COLORS, LABELS, MARKERS, figure_of, finish_panel, number, save_json, value_of, write_tables
from .rows import collect_rows
from .sweep import evaluate
from .tasks import task_of

COSTS = {'gflops': 'arithmetic of an image (GFLOP)', 'images_per_second': 'images per second'}


def budget_sweep(runner: Runner, methods: list[str], grids: list[tuple[int, int]], resolution: tuple[int, int],
                 out_dir: str | Path, header: dict, bootstrap: int = 0, resume: bool = False,
                 digests: Mapping[str, str] | None = None, **settings: Any) -> dict:
    """Rows of all methods at all token grids.

    Images have ``resolution``. The patch size follows from the grid, and the layer brings images to whole patches, as in
    prediction. With ``fit='floor'``, which does not, they have the nearest resolution that the grid divides. The patch size
    of ``vanilla`` and ``img_resize`` is fixed. Images of ``vanilla`` have another resolution, at which they have the same
    number of tokens; those of ``img_resize`` are enlarged from ``resolution`` to it.

    Args:
        runner: A runner whose model is loaded.
        methods: Methods to run; not ``finetuned``.
        grids: (rows, columns) of each token grid.
        resolution: (height, width) in pixels.
        out_dir, header, digests, bootstrap, resume, settings: See :func:`~mspe_mm.evaluation.sweep.sweep`.
    """
    layer = find_patch_embed(runner.model)

    def measure(method: str, grid: tuple[int, int]) -> dict:
        size = resolution
        if method == 'vanilla':
            size = layer.stock_size(grid)
        elif layer.fit == 'floor' and not restores_image(method):
            size = tileable_size(resolution, grid)
        return evaluate(runner, method, size, bootstrap, token_grid=grid, **settings)

    header = dict(header, input_resolution=list(resolution))
    return collect_rows([(method, grid) for method in methods for grid in grids], measure, 'token_grid', out_dir, header,
                        task_of(runner.cfg).HEADLINE_METRICS, resume, digests)


def budget_table(rows: list[dict], metrics: Sequence[str]) -> PrettyTable:
    """Metrics and cost of all rows."""
    table = PrettyTable(['method', 'tokens', 'patch', 'image', *metrics, 'GFLOP', 'images / s'])
    table.align = 'r'
    table.align['method'] = 'l'
    for row in rows:
        sizes = ('{} x {}'.format(*row[key]) for key in ('token_grid', 'kernel_size', 'resolution'))
        table.add_row([row['method'], *sizes, *(number(value_of(row, metric)) for metric in metrics),
                       f'{row["gflops"]:.3g}' if row.get('gflops') else '-', number(row['images_per_second'], 1)])
    return table


def write_budget_report(results: dict, out_dir: str | Path, headline: Sequence[str], metrics: Sequence[str]) -> str:
    """Write ``results.json``, ``table.md`` and ``trade_off.png`` to ``out_dir``; returns the table for a terminal.

    Args:
        results: Of :func:`budget_sweep`.
        out_dir: Folder to write to.
        headline: Candidates for the figure's metric; the first one that was measured is drawn.
        metrics: Metrics of the table.
    """
    out_dir = Path(out_dir)
    save_json(results, out_dir / 'results.json')
    measured = {name for row in results['rows'] for name in row['metrics']}
    table = budget_table(results['rows'], [name for name in metrics if name in measured])
    failures = [f'{row["method"]} at {"{} x {}".format(*row["token_grid"])} tokens: the model cannot run ({row["failure"]})'
                for row in results['rows'] if 'failure' in row]
    text = write_tables([table], out_dir / 'table.md', [
        f'{results["dataset"]}, {results["images"]} images at {"{} x {}".format(*results["input_resolution"])}'], failures)
    plot_trade_off(results, out_dir / 'trade_off.png', next((name for name in headline if name in measured), headline[0]))
    return text


def plot_trade_off(results: dict, path: str | Path, metric: str) -> None:
    """Metric against GFLOP and against speed: a line per method, a point per token grid."""
    with figure_of(path, len(COSTS)) as panels:
        for axes, cost in zip(panels, COSTS):
            trade_off_panel(axes, results, metric, cost)


def trade_off_panel(axes: Axes, results: dict, metric: str, cost: str) -> None:
    """Draw a metric against a cost, one of :data:`COSTS`.

    The points of the last method are labelled with their grids.
    """
    rows = [row for row in results['rows'] if value_of(row, metric) is not None]
    methods = list(dict.fromkeys(row['method'] for row in rows))
    for method in methods:
        points = sorted((row[cost], value_of(row, metric), '{}×{}'.format(*row['token_grid']))
                        for row in rows if row['method'] == method)
        axes.plot(*list(zip(*points))[:2], marker=MARKERS.get(method, 'o'), color=COLORS.get(method),
                  label=LABELS.get(method, method))
        for x, y, grid in points if method == methods[-1] else ():
            axes.annotate(grid, (x, y), xytext=(0, 6), textcoords='offset points', ha='center', fontsize=8)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=COSTS[cost], ylabel=f'{metric} (%), {results["dataset"]}')
    finish_panel(axes)
    axes.margins(y=0.15)
    axes.autoscale(axis='y')    # not from zero: grids differ by little
