"""The cheapest token grid of each resolution that keeps a share of the base model's metric."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.runner import Runner
from prettytable import PrettyTable

from ..errors import InputError
from ..models.find import find_patch_embed
from .report import number, value_of
from .sweep import evaluate
from .tasks import task_of

Size = tuple[int, int]


def choose_budgets(runner: Runner, resolutions: Iterable[Size], grids: Iterable[Size], share: float,
                   **settings: Any) -> tuple[dict[Size, Size], list[dict]]:
    """Measure token grids, from few tokens to many, until one keeps the metric.

    The metric is the first of the task's headline metrics: mIoU, box AP or top-1 accuracy.

    Args:
        runner: A runner whose model is loaded, with its adapter. ``test_dataloader`` and ``test_evaluator`` of its config
            are used; those of a validation set are meant.
        resolutions: (height, width) of each, other than the base resolution.
        grids: (rows, columns) of the candidates. The base grid, which needs no measuring, is taken if none of them keeps the
            metric.
        share: Of the metric at the base resolution, above 0.
        **settings: Of :func:`~mspe_mm.evaluation.sweep.evaluate`.

    Returns:
        The grid of each resolution, for :attr:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed.budgets`, and the rows of
        ``evaluate`` that were measured, each with its ``share``: the base resolution first.

    Raises:
        InputError: If the base model has no metric to keep a share of.
    """
    layer = find_patch_embed(runner.model)
    base = evaluate(runner, 'mspe', layer.base_resolution, token_grid=layer.grid_size, **settings)
    metric = next(name for name in task_of(runner.cfg).HEADLINE_METRICS if name in base['metrics'])
    whole = value_of(base, metric)
    if not whole or whole != whole:
        raise InputError(f'the {metric} at the base resolution is {whole}, of which there is no share to keep: give the '
                         'checkpoint of a trained model')
    rows, chosen = [dict(base, share=1.)], dict[Size, Size]()
    for resolution in resolutions:
        chosen[resolution] = layer.grid_size
        for grid in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            row = evaluate(runner, 'mspe', resolution, token_grid=grid, **settings)
            rows.append(dict(row, token_grid=list(grid), share=value_of(row, metric) / whole))
            if rows[-1]['share'] >= share:
                chosen[resolution] = grid
                break
    return chosen, rows


def choice_table(chosen: dict[Size, Size], rows: Sequence[dict], headline: Sequence[str]) -> PrettyTable:
    """What was measured, and what was chosen.

    Args:
        chosen, rows: Of :func:`choose_budgets`.
        headline: The task's headline metrics.
    """
    metric = next(name for name in headline if name in rows[0]['metrics'])
    table = PrettyTable(['resolution', 'tokens', metric, 'share', 'GFLOP', 'chosen'])
    table.align = 'r'
    for index, row in enumerate(rows):
        resolution, grid = tuple(row['resolution']), tuple(row['token_grid'])
        table.add_row(['{} x {}'.format(*resolution), '{} x {}'.format(*grid), number(value_of(row, metric)),
                       f'{row["share"]:.1%}', f'{row["gflops"]:.3g}', 'yes' if index and chosen[resolution] == grid else ''])
    for resolution, grid in chosen.items():
        if not any((tuple(row['resolution']), tuple(row['token_grid'])) == (resolution, grid) for row in rows):
            table.add_row(['{} x {}'.format(*resolution), '{} x {}'.format(*grid), '-', '-', '-', 'yes: no other keeps it'])
    return table
