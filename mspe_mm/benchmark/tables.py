"""Rows of a benchmark as tables on a terminal, Markdown, JSON and a figure."""
from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from prettytable import MARKDOWN, PrettyTable

from ..evaluation.report import save_json
from ..files import replacing

TIME = {
    'tokens': lambda row: row['tokens'],
    'time, ms': lambda row: _milliseconds(row['seconds']),
    'ours / this': lambda row: row['ratio'] and _spread(row['ratio']),
    'images / s': lambda row: row['images_per_second'] and f'{row["images_per_second"]:.2f}',
    'GFLOP': lambda row: row['flops'] and f'{row["flops"] / 1e9:.2f}',
    'of the roof': lambda row: row['roofline'] and f'{row["roofline"]:.0%}',
    'difference': lambda row: row['difference'] and f'{row["difference"]["absolute"]:.1e}',
    'relative': lambda row: row['difference'] and f'{row["difference"]["relative"]:.1e}',
}
MEMORY = {
    'step, MiB': lambda row: row['memory'] and _mib(row['memory']['step']),
    'ours / this': lambda row: row['memory_ratio'] and f'{row["memory_ratio"]["step"]:.3f}',
    'peak, MiB': lambda row: row['memory'] and _mib(row['memory']['peak']),
    'peak, ours / this': lambda row: row['memory_ratio'] and f'{row["memory_ratio"]["peak"]:.3f}',
}


def _spread(values: dict[str, float]) -> str:
    """Median and quartiles, to three significant digits of the median."""
    digits = max(0, 2 - math.floor(math.log10(max(values['median'], 1e-9))))
    return '{median:.{0}f} [{q1:.{0}f}, {q3:.{0}f}]'.format(digits, **values)


def _milliseconds(seconds: dict[str, float] | None) -> str:
    return _spread({name: 1e3 * value for name, value in seconds.items()}) if seconds else 'out of memory'


def _mib(size: int) -> str:
    return f'{size / 2**20:.1f}'


def table(rows: list[dict], columns: dict[str, Callable[[dict], object]], dividers: bool = True) -> PrettyTable | None:
    """A table without its empty columns; None if all columns are empty.

    Args:
        rows: Rows of :func:`~mspe_mm.benchmark.ratios.measure`.
        columns: The cell of a row, by the name of the column.
        dividers: Draw a line after each comparison. Markdown has no such line: it would be a row of dashes.
    """
    cells = {name: ['' if cell(row) is None else cell(row) for row in rows] for name, cell in columns.items()}
    cells = {name: values for name, values in cells.items() if any(value != '' for value in values)}
    if not cells:
        return None
    labels = list(rows[0]['labels'])
    found = PrettyTable([*labels, 'candidate', *cells])
    found.align = 'r'
    for name in (*labels, 'candidate'):
        found.align[name] = 'l'
    for i, row in enumerate(rows):
        last = i + 1 == len(rows) or not rows[i + 1]['peer']
        found.add_row([*row['labels'].values(), row['candidate'], *(values[i] for values in cells.values())],
                      divider=dividers and last)
    return found


def write_report(results: dict, out_dir: str | Path) -> str:
    """Write ``results.json``, ``table.md`` and ``figure.png`` to ``out_dir``; returns the tables for a terminal."""
    out_dir = Path(out_dir)
    save_json(results, out_dir / 'results.json')
    with replacing(out_dir / 'table.md') as temporary:
        Path(temporary).write_text(markdown(results) + '\n')
    plot(results, out_dir / 'figure.png')
    return '\n\n'.join(found.get_string() for found in _tables(results, dividers=True))


def markdown(results: dict) -> str:
    """The heading and the tables as Markdown."""
    tables = _tables(results, dividers=False)
    for found in tables:
        found.set_style(MARKDOWN)
    return '\n\n'.join([heading(results), *(found.get_string() for found in tables)])


def _tables(results: dict, dividers: bool) -> list[PrettyTable]:
    return [found for columns in (TIME, MEMORY) if (found := table(results['rows'], columns, dividers))]


def heading(results: dict) -> str:
    """Case, settings, device and versions in one line."""
    env, settings = results['environment'], results['settings']
    device = env.get('gpu') or f'{env["cpu"]}, {settings["threads"]} threads'
    versions = ', '.join(f'{name} {env[name]}' for name in ('torch', 'mmcv', 'mmseg', 'mmdet', 'timm') if env[name])
    return (f'{results["case"]}, {settings["dtype"]}{", compiled" if settings["compile"] else ""}, '
            f'{settings["repeats"]} rounds, on {device}, with {versions}')


def plot(results: dict, path: str | Path) -> None:
    """Time and memory of ours, divided by those of each peer, on a logarithmic axis. Below 1 ours takes less.

    A peer that ran out of memory has no point.
    """
    matplotlib.use('agg')
    rows, names, ours = [], [], ''
    for row in results['rows']:
        if row['ratio']:
            rows.insert(0, row)    # from below
            names.insert(0, f'{ours} / {row["candidate"]}\n{", ".join(row["labels"].values())}')
        elif not row['peer']:
            ours = row['candidate']
    measured = [('time', 'o', '#d62728', [row['ratio'] for row in rows])]
    if any(row['memory_ratio'] for row in rows):
        measured.append(('memory', 's', '#1f77b4', [
            row['memory_ratio'] and dict(median=row['memory_ratio']['step']) for row in rows]))
    figure, axes = plt.subplots(figsize=(8.4, 1.1 + (0.36 + 0.1 * len(measured)) * len(rows)), layout='constrained')
    for (name, marker, color, ratios), shift in zip(measured, (0.17, -0.17) if len(measured) > 1 else (0, )):
        for y, ratio in enumerate(ratios):
            if not ratio:
                continue
            axes.plot(ratio['median'], y + shift, marker, color=color, markersize=5, zorder=3, label=None if y else name)
            axes.plot([ratio.get('q1', ratio['median']), ratio.get('q3', ratio['median'])], [y + shift] * 2, color=color,
                      alpha=0.4, linewidth=4, solid_capstyle='butt')
            axes.annotate(f'{ratio["median"]:.2f}', (ratio['median'], y + shift), (0, 5 if shift >= 0 else -5),
                          textcoords='offset points', ha='center', va='bottom' if shift >= 0 else 'top', fontsize=7.5,
                          color=color, bbox=dict(facecolor='white', edgecolor='none', pad=0.5))
    axes.axvline(1, color='0.5', linestyle=':', linewidth=1)
    values = [value for *_, ratios in measured for ratio in ratios if ratio for value in ratio.values() if value > 0]
    low, high = min(0.8, 0.8 * min(values, default=1)), max(1.5, 1.4 * max(values, default=1))    # room for the numbers
    axes.set_xscale('log')
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 5 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f'{" and ".join(name for name, *_ in measured)}, first / second (median; bars: quartiles)')
    axes.grid(axis='x', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    if len(measured) > 1:
        figure.legend(loc='outside upper center', ncols=2, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format='png')
    plt.close(figure)
