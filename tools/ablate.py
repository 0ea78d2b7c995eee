"""Tune and measure the variants of a plan with several seeds: one table, ablation.json and ablation.png.

    python tools/ablate.py configs/ablations/camvid_layer.py --out-dir work_dirs/ablations/camvid

Every run has a folder, OUT_DIR/VARIANT/seed_N. Finished steps are not repeated, so a second call continues where the first
one stopped, and plans with common variants can share an OUT_DIR. A run calls tools/train.py, tools/calibrate.py and
tools/eval_multiscale.py, one process after another. Their output is in log.txt of the folder. They end when this process is
stopped.

A training writes a checkpoint at each interval of the config's CheckpointHook, so an interrupted training loses at most one
interval. It keeps one checkpoint. A finished training keeps the adapter only.
"""
import argparse
import json
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction
from torch import nn
from tqdm import tqdm

from mspe_mm.errors import InputError, check_distinct
from mspe_mm.evaluation.ablation import Plan, Variant, read_plan, write_ablation
from mspe_mm.evaluation.report import number, value_of
from mspe_mm.evaluation.tasks import task_of
from mspe_mm.files import replacing
from mspe_mm.models.adapter import save_adapter
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import full_sizes, parse_resolution
from mspe_mm.runtime.tool_runs import run_tool

REFERENCES = '_references'    # folder of the references; names of variants do not begin with _


def parse_args():
    parser = argparse.ArgumentParser(description='Tune and measure the variants of a plan', parents=[cli.TRUST])
    parser.add_argument('plan', help='config file with base, seeds, resolutions and variants, see configs/ablations')
    parser.add_argument('--out-dir', required=True, help='folder for the runs, ablation.json, table.md and ablation.png')
    parser.add_argument('--variants', nargs='+', metavar='NAME', help='run only these')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='N', help='seeds, instead of those of the plan')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, metavar='KEY=VALUE',
                        help='settings that override the base config in all variants')
    return parser.parse_args()


class Runs:
    """The runs of a plan, in folders below ``out_dir``."""

    def __init__(self, plan: Plan, out_dir: Path, options: dict) -> None:
        self.plan, self.out_dir, self.options = plan, out_dir, options
        cfg = self.config({}, 0)
        self.checkpoint = cfg.get('load_from')
        if not self.checkpoint:
            raise InputError(f'config {plan.base} has no load_from: add --cfg-options load_from=CHECKPOINT')
        if not any(hook['type'] == 'AdapterHook' for hook in cfg.get('custom_hooks', [])):
            raise InputError(f'config {plan.base} tunes no patch embedding: its custom_hooks have no AdapterHook')

    def config(self, options: dict, seed: int) -> Config:
        """The base config with ``options``, without validation, with one checkpoint to resume from."""
        cfg = Config.fromfile(self.plan.base)
        cfg.merge_from_dict({**options, **self.options, 'randomness': dict(seed=seed)})
        hooks = cfg.setdefault('default_hooks', ConfigDict())
        own = hooks.get('checkpoint') or {}
        hooks.checkpoint = dict(type='CheckpointHook', interval=own.get('interval', 1), by_epoch=own.get('by_epoch', True),
                                max_keep_ckpts=1)
        for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
            cfg[key] = None
        return cfg

    def write_config(self, folder: Path, variant: Variant, seed: int) -> Path:
        """Write the config of a run to its folder.

        Raises:
            InputError: If the folder holds a run with other settings.
        """
        path, images = folder / 'config.py', self.plan.images if variant.init == 'calibrated' else None
        settings = dict(vars(variant), images=images, checkpoint=self.checkpoint)
        text = f'# {json.dumps(settings, sort_keys=True)}\n{self.config(variant.options, seed).pretty_text}'
        if path.is_file() and path.read_text() != text:
            raise InputError(f'{folder} has a run with other settings: give the variant another name, or remove the folder')
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            Path(temporary).write_text(text)
        return path

    def initial_adapter(self, folder: Path, config: Path, variant: Variant) -> Path | None:
        """The adapter with the initial kernels of a run; None for PI-resize."""
        if variant.init == 'pi':
            return None
        folder = folder.parent if variant.init == 'calibrated' else folder    # all seeds share it
        path = folder / 'init.safetensors'
        if path.is_file():
            return path
        if variant.init == 'calibrated':
            count = ['--num-images', variant.num_images] if variant.num_images else []
            run_tool(folder / 'log.txt', 'calibrate.py', config, self.checkpoint, '--images', self.plan.images, *count,
                     *degradation(variant), '--out', path)
            return path
        cfg = Config.fromfile(config)
        model = cli.build_model(cfg)
        load_weights(model, self.checkpoint)
        layer = cli.require_mspe(model, str(config))
        torch.manual_seed(cfg.randomness.seed)
        for size in layer.own_sizes:
            drawn = nn.Conv2d(layer.in_channels, layer.embed_dims, layer.geometry.kernel(size))
            layer.set_kernel(size, drawn.weight, None if layer.base.bias is None else drawn.bias)
        save_adapter(layer, path)
        return path

    def adapter(self, folder: Path, config: Path, variant: Variant) -> Path | None:
        """The adapter of a run, tuned if it does not exist yet."""
        path = folder / 'adapter.safetensors'
        if path.is_file():
            return path
        initial = self.initial_adapter(folder, config, variant)
        if not variant.tune:
            return initial
        train = folder / 'train'
        run_tool(folder / 'log.txt', 'train.py', config, '--work-dir', train, '--resume',
                 *(['--adapter', initial] if initial else []))
        (train / 'adapter.safetensors').replace(path)    # not earlier: training also saves unfinished ones
        for checkpoint in (*train.glob('*.pth'), train / 'last_checkpoint'):
            checkpoint.unlink(missing_ok=True)
        return path

    def measured(self, folder: Path, variant: Variant, seed: int, method: str) -> list[dict]:
        """The rows of eval_multiscale.py for ``method``, measured if the folder does not have them yet."""
        config, done = self.write_config(folder, variant, seed), folder / 'rows.json'
        resolutions = list(self.plan.resolutions)
        found = json.loads(done.read_text()) if done.is_file() else {}
        if found.get('resolutions') != resolutions:
            adapter = self.adapter(folder, config, variant)
            run_tool(folder / 'log.txt', 'eval_multiscale.py', config, self.checkpoint, '--out-dir', folder, '--resume',
                     '--methods', method, '--resolutions', *resolutions, *degradation(variant),
                     *(['--adapter', adapter] if adapter else []))
            results = json.loads((folder / 'results.json').read_text())
            sizes = full_sizes(list(map(parse_resolution, resolutions)), results['reference_resolution'])
            found = dict(resolutions=resolutions, rows=[    # without those of earlier plans
                row for size in sizes for row in results['rows'] if tuple(row['resolution']) == size])
            with replacing(done) as temporary:    # whole or not at all
                Path(temporary).write_text(json.dumps(found))
        return found['rows']

    def rows(self, variant: Variant, seed: int) -> list[dict]:
        """The rows of a variant and a seed."""
        folder = self.out_dir / variant.name / f'seed_{seed}'
        return [dict(row, variant=variant.name, seed=seed) for row in self.measured(folder, variant, seed, 'mspe')]

    def reference_rows(self) -> list[dict]:
        """The rows of the untuned methods of the plan."""
        return [dict(row, variant=method, seed=0) for method in self.plan.references
                for row in self.measured(self.out_dir / REFERENCES / method, Variant(method, tune=False), 0, method)]


def degradation(variant: Variant) -> list[str]:
    """The option that names the degrade pipeline of a variant."""
    return ['--degrade', variant.degrade] if variant.degrade else []


def main():
    args = parse_args()
    plan, out_dir = read_plan(args.plan), Path(args.out_dir)
    names = [variant.name for variant in plan.variants]
    unknown = [name for name in args.variants or [] if name not in names]
    if unknown:
        raise InputError(f'plan {args.plan} has no variant {unknown[0]}: it has {", ".join(names)}')
    check_distinct(args.seeds or [], '--seeds')
    if out_dir.exists() and not out_dir.is_dir():
        raise InputError(f'--out-dir {out_dir} is a file: give a folder')
    runs = Runs(plan, out_dir, args.cfg_options)
    task = task_of(runs.config({}, 0))
    header = dict(plan=args.plan, base=str(plan.base), checkpoint=runs.checkpoint, cfg_options=args.cfg_options)

    rows = runs.reference_rows()
    todo = [(variant, seed) for variant in plan.variants if variant.name in (args.variants or names)
            for seed in variant.seeds(args.seeds or plan.seeds)]
    for variant, seed in tqdm(todo, desc='ablate', unit='run', disable=None):
        found = runs.rows(variant, seed)
        rows += found
        text = write_ablation(rows, out_dir, header, task.HEADLINE_METRICS)    # the rows so far
        measured = [name for name in task.HEADLINE_METRICS if any(name in row['metrics'] for row in found)]
        metric = (measured or task.HEADLINE_METRICS)[0]
        tqdm.write(f'{variant.name}, seed {seed}: {metric} ' + '   '.join(number(value_of(row, metric)) for row in found))
    print(text)
    print(f'written to {out_dir}: ablation.json, table.md, ablation.png')


if __name__ == '__main__':
    cli.run(main)
