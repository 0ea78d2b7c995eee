"""The page of tools/gpu_report.py: the results of all stages as Markdown."""
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from prettytable import MARKDOWN, PrettyTable

from ..evaluation.report import full_table, metric_table, number
from ..evaluation.token_budgets import budget_table, plot_trade_off
from ..files import replacing
from .loss_scaling import TOLERANCE
from .tables import markdown

TITLES = {'vit': 'Backbones: ViT', 'vitdet': 'Backbones: ViTDet', 'tuning': 'A tuning step'}
"""Sections of the benchmark stages, by the beginning of the stage's name."""

INTRODUCTION = '''Written by `scripts/gpu_report.sh` ({device}). How times, ratios and memory are measured is in
[performance.md](performance.md#how-it-measures).'''

REHEARSAL = '**A rehearsal with tiny models on a CPU: the figures show that the stages run, and nothing else.**'

TRAININGS = '''SETR-Naive on a ViT-Ti, trained from scratch, then tuned for four resolutions, and tuned for two token
grids, by `tools/train.py --amp`: float16 with dynamic loss scaling. `skipped` counts the steps that were left out because a
gradient overflowed; the loss scale starts at 65536. A dash: not in mixed precision, or not on a GPU.'''

LOSS_SCALING = '''The same steps of tuning (SETR, ViT {size}, {base} px, {batch_size} images, K = 4, random labels) in
float32 and in mixed precision. `difference` is the norm of the difference of the tuned kernels, divided by that of what
tuning in float32 changed; at most {tolerance} is asked of float16. Steps that overflow are skipped, counted, and taken
again.'''

TRADE_OFF = '''CamVid over (resolution, token grid), in bfloat16. `vanilla` is the stock model at inputs that have the
tokens; `img_resize` enlarges a small image until it has them; `mspe` embeds the small image on the grid, by one adapter for
all points.'''


def write_page(found: Mapping[str, dict], stages: Iterable[str], page: Path, environment: Mapping[str, object],
               rehearsal: bool) -> None:
    """Write the page, and its figure beside it if the stage ``trade-off`` was measured.

    Args:
        found: Results of the finished stages, by name.
        stages: Names of all stages; those that are missing are listed.
        page: Markdown file to write.
        environment: Of :func:`~mspe_mm.benchmark.environment.environment`.
        rehearsal: Whether the page says that the figures are those of a rehearsal.
    """
    parts = ['# Performance on a GPU', INTRODUCTION.format(device=environment.get('gpu') or environment['cpu'])]
    if rehearsal:
        parts.append(REHEARSAL)
    for prefix, title in TITLES.items():
        benchmarks = [result for stage, result in found.items() if stage.partition('-')[0] == prefix]
        parts += [f'## {title}'] * bool(benchmarks)
        for result in benchmarks:
            parts += [f'```shell\n{_command(result)}\n```', markdown(result)]
    trainings = {stage: result for stage, result in found.items() if 'recipe' in result}
    if trainings:
        parts += ['## Training in mixed precision', TRAININGS, training_table(trainings)]
    if 'camvid-sweep' in found:
        rows = found['camvid-sweep']['rows']
        parts += ['## The sweep in mixed precision', _markdown(metric_table(rows, 'mIoU')),
                  _markdown(full_table(rows, ['mIoU', 'aAcc']))]
    if 'loss-scaling' in found:
        result = found['loss-scaling']
        parts += ['## Loss scaling', LOSS_SCALING.format(**result, tolerance=TOLERANCE), loss_scaling_table(result['rows'])]
    if 'trade-off' in found:
        result, figure = found['trade-off'], page.with_suffix('.png')
        plot_trade_off(dict(result, rows=[_named(row) for row in result['rows']]), figure, 'mIoU')
        parts += ['## Metric and cost', TRADE_OFF, _markdown(budget_table(result['rows'], ['mIoU'])),
                  f'![mIoU against GFLOP and images per second]({figure.name})']
    if missing := [stage for stage in stages if stage not in found]:
        parts.append(f'Not measured yet: {", ".join(missing)}.')
    with replacing(page) as temporary:
        Path(temporary).write_text('\n\n'.join(parts) + '\n')


def training_table(trainings: Mapping[str, dict]) -> str:
    """A row for each training."""
    table = PrettyTable(['stage', 'recipe', 'steps', 'time, s', 'memory, MiB', 'skipped', 'loss scale at the end'])
    for stage, row in trainings.items():
        table.add_row([stage, f'configs/{row["recipe"]}.py', row['steps'], number(row['seconds'], 1),
                       *('-' if row[key] is None else f'{row[key]:g}' for key in ('memory', 'skipped', 'loss_scale'))])
    return _markdown(table)


def loss_scaling_table(rows: Iterable[dict]) -> str:
    """A row for each tuning in mixed precision."""
    table = PrettyTable(['dtype', 'steps', 'skipped', 'first loss scale', 'last loss scale', 'difference', 'within'])
    for row in rows:
        within = ('yes' if row['difference'] <= TOLERANCE else 'no') if row['dtype'] == 'float16' else ''
        scales = ('-' if row[key] is None else f'{row[key]:g}' for key in ('initial_scale', 'final_scale'))
        table.add_row([row['dtype'], row['steps'], row['skipped'], *scales, f'{row["difference"]:.2g}', within])
    return _markdown(table)


def _command(result: dict) -> str:
    """The command of a benchmark as it is typed in a clone."""
    _, _, arguments = result['command'].partition('benchmark.py ')
    return 'python tools/benchmark.py ' + re.sub(r' --out-dir \S+', '', arguments)


def _named(row: dict) -> dict:
    """The row of a method at a resolution: a line of the figure has one of them."""
    if row['method'] == 'vanilla':
        return row
    return dict(row, method='{} at {} × {}'.format(row['method'], *row['resolution']))


def _markdown(table: PrettyTable) -> str:
    table.set_style(MARKDOWN)
    return table.get_string()
