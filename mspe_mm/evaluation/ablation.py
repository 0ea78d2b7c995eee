"""Ablations: variants of one config, each with several seeds, as one table with mean and spread.

A plan is a small config file:

    base = '../setr_mspe_camvid.py'                # relative to the plan; its load_from is the model that is tuned
    seeds = (0, 1, 2)
    resolutions = [60, 120, 180]                   # as for tools/eval_multiscale.py
    references = ['flexivit', 'img_resize']        # methods that need no tuning, measured once
    images = 'data/camvid/images/train'            # only for variants that are calibrated
    variants = dict(default={}, native={'model.backbone.parameterization': 'native'}, ...)

The settings of a variant are keys of the config and their values, as in ``--cfg-options``, and those of :data:`SETTINGS`.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import matplotlib.pyplot as plt
from mmengine.config import Config
from prettytable import PrettyTable

from ..errors import InputError
from .report import figure_of, finish_panel, number, save_json, write_tables

INITS = ('pi', 'calibrated', 'random')
SETTINGS = ('init', 'num_images', 'tune', 'degrade')
"""init: what the kernels start from: PI-resize, tools/calibrate.py, or numbers drawn as for any convolution.
num_images: How many images calibrate, by default all.
tune: False leaves the kernels as they start.
degrade: Pipeline of the config by which images lose their resolution in calibration and evaluation, see tools/calibrate.py.
"""


@dataclass(frozen=True)
class Variant:
    """One line of the table: ``options`` on top of the base config, and :data:`SETTINGS`."""

    name: str
    options: dict = field(default_factory=dict)
    init: str = 'pi'
    num_images: int | None = None
    tune: bool = True
    degrade: str | None = None

    def seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """Those of ``seeds`` that make a difference: what is neither drawn nor tuned needs one."""
        return seeds if self.tune or self.init == 'random' else seeds[:1]


@dataclass(frozen=True)
class Plan:
    """What tools/ablate.py runs; resolutions are texts, as on a command line."""

    base: Path
    seeds: tuple[int, ...]
    resolutions: tuple[str, ...]
    variants: tuple[Variant, ...]
    references: tuple[str, ...] = ()
    images: str | None = None


def read_plan(path: str | Path) -> Plan:
    """The plan in a config file.

    Raises:
        InputError: Naming what is missing, unknown or contradictory.
    """
    if not Path(path).is_file():
        raise InputError(f'plan {path} does not exist')
    try:
        cfg = Config.fromfile(str(path), lazy_import=False).to_dict()
    except Exception as error:    # whatever the file does
        raise InputError(f'plan {path} cannot be read: {" ".join(str(error).split())}') from error
    missing = [key for key in ('base', 'seeds', 'resolutions', 'variants') if not cfg.get(key)]
    if missing:
        raise InputError(f'plan {path} has no {missing[0]}: it needs base, seeds, resolutions and variants')
    base = Path(path).parent / cfg['base']
    if not base.is_file():
        raise InputError(f'plan {path} has base={cfg["base"]!r}, and {base} does not exist')
    variants = tuple(read_variant(name, settings) for name, settings in cfg['variants'].items())
    if not cfg.get('images') and any(variant.init == 'calibrated' for variant in variants):
        raise InputError(f'plan {path} has a variant with init=\'calibrated\', and no images: set images to a folder')
    return Plan(base, tuple(cfg['seeds']), tuple(map(str, cfg['resolutions'])), variants, tuple(cfg.get('references', ())),
                cfg.get('images'))


def read_variant(name: str, settings: Mapping) -> Variant:
    """A variant of a plan.

    Raises:
        InputError: For a name that is no folder's, or an unknown init.
    """
    if not re.fullmatch(r'[a-zA-Z0-9][\w.+-]*', name):
        raise InputError(f'variant {name!r} gives a folder its name: use letters, digits and then _ . + -')
    own = {key: settings[key] for key in SETTINGS if key in settings}
    variant = Variant(name, {key: value for key, value in settings.items() if key not in SETTINGS}, **own)
    if variant.init not in INITS:
        raise InputError(f'variant {name} has init={variant.init!r}: choose one of {", ".join(INITS)}')
    return variant


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation of a sample (with n - 1); of one value there is none."""
    return mean(values), stdev(values) if len(values) > 1 else None


def summary(rows: Sequence[dict], metric: str) -> dict[str, dict[tuple[int, int] | str, tuple[float, float | None]]]:
    """Mean and spread over the seeds by variant, at each resolution and, as ``'mean'``, of the mean over resolutions.

    Args:
        rows: ``{'variant', 'seed', 'resolution', 'metrics'}``.
        metric: One of their metrics; a row without it counts as 0, as in the curves.
    """
    result = {}
    for name in dict.fromkeys(row['variant'] for row in rows):
        values: dict = {}
        for row in rows:
            if row['variant'] == name:
                values.setdefault(tuple(row['resolution']), {})[row['seed']] = row['metrics'].get(metric) or 0.
        whole = set.intersection(*(set(by_seed) for by_seed in values.values()))
        averages = [mean(by_seed[seed] for by_seed in values.values()) for seed in sorted(whole)]
        result[name] = {size: mean_and_spread([*by_seed.values()]) for size, by_seed in sorted(values.items())}
        if averages:
            result[name]['mean'] = mean_and_spread(averages)
    return result


def ablation_table(rows: Sequence[dict], metric: str) -> PrettyTable:
    """A row a variant, a column a resolution and one for their mean; with several seeds mean ± standard deviation."""
    found = summary(rows, metric)
    sizes = sorted({tuple(row['resolution']) for row in rows})
    table = PrettyTable([metric, 'seeds', *('{} x {}'.format(*size) for size in sizes), 'mean'])
    table.align = 'r'
    table.align[metric] = 'l'
    for name, cells in found.items():
        seeds = len({row['seed'] for row in rows if row['variant'] == name})
        table.add_row([name, seeds, *(_cell(cells.get(key)) for key in (*sizes, 'mean'))])
    return table


def _cell(value: tuple[float, float | None] | None) -> str:
    if value is None:
        return ''
    average, spread = value
    return number(average) if spread is None else f'{number(average)} ± {number(spread)}'


def write_ablation(rows: Sequence[dict], out_dir: str | Path, header: dict, metrics: Sequence[str]) -> str:
    """Write ``ablation.json``, ``table.md`` and ``ablation.png`` to ``out_dir``; returns the tables for a terminal.

    Args:
        rows: See :func:`summary`.
        out_dir: Folder to write to.
        header: What identifies the ablation; stands before the rows.
        metrics: Metrics with a table and a panel of their own; those that were not measured are left out.
    """
    out_dir, metrics = Path(out_dir), [name for name in metrics if any(name in row['metrics'] for row in rows)]
    save_json(dict(header, rows=list(rows)), out_dir / 'ablation.json')
    text = write_tables([ablation_table(rows, metric) for metric in metrics], out_dir / 'table.md')
    with figure_of(out_dir / 'ablation.png', len(metrics)) as panels:
        for axes, metric in zip(panels, metrics):
            found = summary(rows, metric)
            sizes = sorted({tuple(row['resolution']) for row in rows})
            colors = plt.get_cmap('tab20').colors
            for index, (name, cells) in enumerate(found.items()):
                places = [place for place, size in enumerate(sizes) if size in cells]
                averages, spreads = zip(*(cells[sizes[place]] for place in places))
                axes.errorbar(places, averages, [spread or 0. for spread in spreads], marker='o', markersize=3, capsize=2,
                              linewidth=1.2, color=colors[index % len(colors)], label=name)
            axes.set_xticks(range(len(sizes)), ['{} × {}'.format(*size) for size in sizes])
            axes.set(xlabel='resolution of the image (height × width, px)', ylabel=f'{metric} (%), mean ± sd over seeds')
            finish_panel(axes)
    return text
