"""Ablations: variants of one config, each trained with several seeds, in one table of mean and standard deviation.

A plan is a small config file:

    base = '../setr_mspe_camvid.py'                # path relative to the plan; its load_from is tuned
    seeds = (0, 1, 2)
    resolutions = [60, 120, 180]                   # as for tools/eval_multiscale.py
    references = ['flexivit', 'img_resize']        # untuned methods, measured once
    images = 'data/camvid/images/train'            # images that calibrate; for variants with init='calibrated'
    variants = dict(default={}, native={'model.backbone.parameterization': 'native'}, ...)

A variant is a dict of config keys and their values, as in ``--cfg-options``, and of :data:`SETTINGS`.
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

from ..errors import InputError, check_distinct
from .report import figure_of, finish_panel, number, save_json, value_of, write_tables

INITS = ('pi', 'calibrated', 'random')
SETTINGS = ('init', 'num_images', 'tune', 'degrade')
"""init: Initial kernels: ``'pi'`` (PI-resize), ``'calibrated'`` (tools/calibrate.py) or ``'random'`` (PyTorch's ``Conv2d``).
num_images: Number of images that calibrate; default all.
tune: Whether the kernels are tuned; False measures the initial kernels.
degrade: Key of a pipeline in the config that lowers the resolution of images, in calibration and evaluation. See
    tools/calibrate.py.
"""


@dataclass(frozen=True)
class Variant:
    """A row of the table: ``options`` on top of the base config, and :data:`SETTINGS`."""

    name: str
    options: dict = field(default_factory=dict)
    init: str = 'pi'
    num_images: int | None = None
    tune: bool = True
    degrade: str | None = None

    def seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """The seeds that the variant is run with. Deterministic variants use the first seed only."""
        return seeds if self.tune or self.init == 'random' else seeds[:1]


@dataclass(frozen=True)
class Plan:
    """The runs of tools/ablate.py. ``resolutions`` are strings, as on the command line."""

    base: Path
    seeds: tuple[int, ...]
    resolutions: tuple[str, ...]
    variants: tuple[Variant, ...]
    references: tuple[str, ...] = ()
    images: str | None = None


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a config file.

    Raises:
        InputError: If the file cannot be read, or a setting is missing, unknown, repeated or contradictory.
    """
    if not Path(path).is_file():
        raise InputError(f'plan {path} does not exist')
    try:
        cfg = Config.fromfile(str(path), lazy_import=False).to_dict()
    except Exception as error:    # a config is Python: it can raise anything
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
    check_distinct(cfg['seeds'], f'seeds of plan {path}')
    check_distinct(map(str, cfg['resolutions']), f'resolutions of plan {path}')
    return Plan(base, tuple(cfg['seeds']), tuple(map(str, cfg['resolutions'])), variants, tuple(cfg.get('references', ())),
                cfg.get('images'))


def read_variant(name: str, settings: Mapping) -> Variant:
    """Read a variant of a plan.

    Raises:
        InputError: If the name cannot name a folder, or ``init`` is unknown.
    """
    if not re.fullmatch(r'[a-zA-Z0-9][\w.+-]*', name):
        raise InputError(f'variant {name!r} gives a folder its name: use letters, digits and then _ . + -')
    own = {key: settings[key] for key in SETTINGS if key in settings}
    variant = Variant(name, {key: value for key, value in settings.items() if key not in SETTINGS}, **own)
    if variant.init not in INITS:
        raise InputError(f'variant {name} has init={variant.init!r}: choose one of {", ".join(INITS)}')
    return variant


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None instead of the latter for a single value."""
    return mean(values), stdev(values) if len(values) > 1 else None


def summary(rows: Sequence[dict], metric: str) -> dict[str, dict[tuple[int, int] | str, tuple[float, float | None]]]:
    """Mean and spread over the seeds of each variant.

    A row without a value (:func:`~mspe_mm.evaluation.report.value_of`) is left out, as in the curves of a sweep. Seeds that
    lack a value at some resolution are left out of ``'mean'``.

    Args:
        rows: ``{'variant', 'seed', 'resolution', 'metrics'}``.
        metric: The metric to summarise.

    Returns:
        ``{variant: {resolution: (mean, spread)}}``. The key ``'mean'`` holds mean and spread of each seed's mean over all
        resolutions. The spread of a single seed is None. A resolution without a value, and a mean without a complete
        seed, is absent.
    """
    result = {}
    for name in dict.fromkeys(row['variant'] for row in rows):
        values: dict = {}
        for row in rows:
            if row['variant'] == name:
                by_seed, value = values.setdefault(tuple(row['resolution']), {}), value_of(row, metric)
                if value is not None:
                    by_seed[row['seed']] = value
        complete = set.intersection(*(set(by_seed) for by_seed in values.values()))
        averages = [mean(by_seed[seed] for by_seed in values.values()) for seed in sorted(complete)]
        result[name] = {size: mean_and_spread([*by_seed.values()]) for size, by_seed in sorted(values.items()) if by_seed}
        if averages:
            result[name]['mean'] = mean_and_spread(averages)
    return result


def ablation_table(rows: Sequence[dict], metric: str) -> PrettyTable:
    """One metric: a row per variant, a column per resolution and one for the mean over them; mean ± standard deviation."""
    found = summary(rows, metric)
    sizes = sorted({tuple(row['resolution']) for row in rows})
    table = PrettyTable([metric, 'seeds', *('{} x {}'.format(*size) for size in sizes), 'mean'])
    table.align = 'r'
    table.align[metric] = 'l'
    for name, cells in found.items():
        of_variant = [row for row in rows if row['variant'] == name]
        measured = {tuple(row['resolution']) for row in of_variant}
        texts = [_cell(cells.get(size)) if size in measured else '' for size in sizes]    # '': no row, '-': no value
        table.add_row([name, len({row['seed'] for row in of_variant}), *texts, _cell(cells.get('mean'))])
    return table


def _cell(value: tuple[float, float | None] | None) -> str:
    average, spread = value or (None, None)
    return number(average) if spread is None else f'{number(average)} ± {number(spread)}'


def write_ablation(rows: Sequence[dict], out_dir: str | Path, header: dict, metrics: Sequence[str]) -> str:
    """Write ``ablation.json``, ``table.md`` and ``ablation.png`` to ``out_dir``; returns the tables for a terminal.

    Args:
        rows: See :func:`summary`.
        out_dir: Folder to write to.
        header: Entries of the file that precede the rows: plan, base config, checkpoint.
        metrics: Metrics that get a table and a panel each. Metrics that no row has are left out.
    """
    out_dir = Path(out_dir)
    metrics = [name for name in metrics if any(name in row['metrics'] for row in rows)] or [*metrics[:1]]
    save_json(dict(header, rows=list(rows)), out_dir / 'ablation.json')
    text = write_tables([ablation_table(rows, metric) for metric in metrics], out_dir / 'table.md')
    with figure_of(out_dir / 'ablation.png', len(metrics)) as panels:
        for axes, metric in zip(panels, metrics):
            found = summary(rows, metric)
            sizes = sorted({tuple(row['resolution']) for row in rows})
            colors = plt.get_cmap('tab20').colors
            for index, (name, cells) in enumerate(found.items()):
                places = [place for place, size in enumerate(sizes) if size in cells]
                averages, spreads = zip(*(cells[sizes[place]] for place in places)) if places else ((), ())
                axes.errorbar(places, averages, [spread or 0. for spread in spreads], marker='o', markersize=3, capsize=2,
                              linewidth=1.2, color=colors[index % len(colors)], label=name)
            axes.set_xticks(range(len(sizes)), ['{} × {}'.format(*size) for size in sizes])
            axes.set(xlabel='resolution of the image (height × width, px)', ylabel=f'{metric} (%), mean ± sd over seeds')
            finish_panel(axes)
    return text
