"""Results of a sweep as tables on a terminal, Markdown, JSON and a figure.

A metric without a value, because the model cannot run or the metric was not measured, is a dash in every table. Curves and
means leave it out. All modules read the metrics of a row by :func:`value_of`.
"""
from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from prettytable import MARKDOWN, PrettyTable

from ..files import replacing

LABELS = {'vanilla': 'Vanilla', 'img_resize': 'Image resize', 'flexivit': 'FlexiViT', 'prior': 'Prior',
          'calibrated': 'Calibrated', 'mspe': 'MSPE (tuned)', 'finetuned': 'All weights trained'}
COLORS = {'vanilla': '#7f7f7f', 'img_resize': '#1f77b4', 'flexivit': '#ff7f0e', 'prior': '#9467bd',
          'calibrated': '#2ca02c', 'mspe': '#d62728', 'finetuned': '#8c564b'}
MARKERS = {'vanilla': 's', 'img_resize': '^', 'flexivit': 'D', 'prior': 'v', 'calibrated': 'P', 'mspe': 'o',
           'finetuned': 'X'}


def save_json(results: dict, path: str | Path) -> None:
    """Write results to ``path``, whole or not at all. NaN and infinite numbers become null."""
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps(_finite(results), indent=2) + '\n')


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def value_of(row: dict, metric: str) -> float | None:
    """A metric of a row; None if it was not measured, as in a row that cannot run, or is NaN."""
    value = row['metrics'].get(metric)
    return None if value is None or not math.isfinite(value) else value


def metric_table(rows: list[dict], metric: str) -> PrettyTable:
    """One metric: a row per method, a column per resolution, 95% intervals where they were measured."""
    resolutions = sorted({tuple(row['resolution']) for row in rows})
    table = PrettyTable([metric, *(f'{h} x {w}' for h, w in resolutions)])
    table.align = 'r'
    table.align[metric] = 'l'
    for method in dict.fromkeys(row['method'] for row in rows):
        cells = {tuple(row['resolution']): _cell(row, metric) for row in rows if row['method'] == method}
        table.add_row([method, *(cells.get(resolution, '') for resolution in resolutions)])
    return table


def full_table(rows: list[dict], metrics: Sequence[str]) -> PrettyTable:
    """All metrics of all rows."""
    table = PrettyTable(['method', 'resolution', 'kernel', 'tokens', *metrics, 'images / s'])
    table.align = 'r'
    table.align['method'] = 'l'
    for row in rows:
        table.add_row([row['method'], *('{} x {}'.format(*row[key]) for key in ('resolution', 'kernel_size', 'token_grid')),
                       *(number(value_of(row, metric)) for metric in metrics), number(row['images_per_second'], 1)])
    return table


def cost_table(rows: list[dict], seconds: dict[str, float | None]) -> PrettyTable:
    """The cost of each method: the parameters that it trains, and the training time if it is known."""
    table = PrettyTable(['method', 'trained parameters', 'training time (s)'])
    table.align = 'r'
    table.align['method'] = 'l'
    for method, parameters in {row['method']: row['trained_parameters'] for row in rows}.items():
        table.add_row([method, f'{parameters:,}', '-' if seconds.get(method) is None else f'{seconds[method]:.0f}'])
    return table


def _cell(row: dict, metric: str) -> str:
    cell = number(value_of(row, metric))
    interval = row.get('intervals', {}).get(metric)
    return f'{cell} [{interval[0]:.1f}, {interval[1]:.1f}]' if interval else cell


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; a dash for None."""
    return '-' if value is None else f'{value:.{digits}f}'


def write_report(results: dict, out_dir: str | Path, headline: Sequence[str], metrics: Sequence[str]) -> str:
    """Write ``results.json``, ``table.md`` and ``curve.png`` to ``out_dir``; returns the tables for a terminal.

    Args:
        results: Of :func:`~mspe_mm.evaluation.sweep.sweep`.
        out_dir: Folder to write to.
        headline: Metrics that get a table and a panel of the figure each.
        metrics: Metrics of the full table.

    Metrics that no row has are left out. If no row has any, the figure shows empty axes of the first headline metric.
    """
    out_dir = Path(out_dir)
    save_json(results, out_dir / 'results.json')
    rows = results['rows']
    measured = {name for row in rows for name in row['metrics']}
    headline = [name for name in headline if name in measured] or [*headline[:1]]
    metrics = [name for name in metrics if name in measured]
    tables = [*(metric_table(rows, metric) for metric in headline), full_table(rows, metrics)]
    if all('trained_parameters' in row for row in rows):    # files of early versions have none
        tables.append(cost_table(rows, results.get('training_seconds') or {}))
    failures = [f'{row["method"]} at {"{} x {}".format(*row["resolution"])}: the model cannot run ({row["failure"]})'
                for row in rows if 'failure' in row]
    base = '{} x {}'.format(*results['reference_resolution'])
    text = write_tables(tables, out_dir / 'table.md',
                        [f'{results["dataset"]}, {results["images"]} images, base resolution {base}'], failures)
    plot_curves(results, out_dir / 'curve.png', headline)
    return text


def write_tables(tables: Sequence[PrettyTable], path: str | Path, before: Sequence[str] = (),
                 after: Sequence[str] = ()) -> str:
    """Write tables as Markdown to ``path``, whole or not at all; returns them for a terminal.

    Args:
        tables: Tables to write.
        path: Path of the Markdown file.
        before: Paragraphs that precede the tables in the file.
        after: Paragraphs that follow the tables in the file, and lines that follow them on the terminal.
    """
    text = '\n'.join([*(table.get_string() for table in tables), *after])
    for table in tables:
        table.set_style(MARKDOWN)
    with replacing(path) as temporary:
        Path(temporary).write_text('\n\n'.join([*before, *(table.get_string() for table in tables), *after]) + '\n')
    return text


def plot_curves(results: dict, path: str | Path, metrics: Sequence[str]) -> None:
    """Metric against resolution: a panel per metric, a line per method, 95% intervals where they were measured."""
    with figure_of(path, len(metrics)) as panels:
        for axes, metric in zip(panels, metrics):
            _plot_panel(axes, results, metric)


@contextmanager
def figure_of(path: str | Path, panels: int) -> Iterator[Sequence[Axes]]:
    """Yields panels side by side; at the end of the context they are saved to ``path`` with one legend above them."""
    matplotlib.use('agg')
    figure, axes = plt.subplots(1, panels, figsize=(6.4 * panels, 4.4), layout='constrained', squeeze=False)
    yield axes[0]
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=3 * panels, frameon=False)    # covers no curve
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format='png')
    plt.close(figure)


def _plot_panel(axes: Axes, results: dict, metric: str) -> None:
    rows = results['rows']
    heights = sorted({tuple(row['resolution']) for row in rows})
    for method in dict.fromkeys(row['method'] for row in rows):
        points = {tuple(row['resolution']): row for row in rows
                  if row['method'] == method and value_of(row, metric) is not None}
        resolutions = sorted(points)
        places = [heights.index(resolution) for resolution in resolutions]
        values = [value_of(points[resolution], metric) for resolution in resolutions]
        color = COLORS.get(method)
        axes.plot(places, values, marker=MARKERS.get(method, 'o'), color=color, label=LABELS.get(method, method),
                  linewidth=2.2 if method == 'mspe' else 1.5, zorder=3 if method == 'mspe' else 2)
        intervals = [points[resolution].get('intervals', {}).get(metric) for resolution in resolutions]
        if points and all(intervals):
            axes.fill_between(places, *zip(*intervals), color=color, alpha=0.10, linewidth=0)
    base = tuple(results['reference_resolution'])
    if base in heights:
        axes.axvline(heights.index(base), color='0.6', linestyle=':', linewidth=1)
        axes.annotate('base', (heights.index(base), 0.01), xycoords=('data', 'axes fraction'), ha='right', va='bottom',
                      rotation=90, color='0.4', fontsize=8)
    axes.set_xticks(range(len(heights)), [f'{h} × {w}' for h, w in heights])
    axes.set(xlabel='resolution of the image (height × width, px)', ylabel=f'{metric} (%), {results["dataset"]}')
    finish_panel(axes)


def finish_panel(axes: Axes) -> None:
    """Set the axis limits, grid and spines that all panels share."""
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 if axes.has_data() and axes.dataLim.y1 > 0 else None)
    axes.grid(axis='y', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
