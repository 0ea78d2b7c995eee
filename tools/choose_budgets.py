"""Choose the cheapest token grid of each resolution that keeps a share of the base model's metric, and write it into an
adapter. Prediction with that adapter then takes these grids by itself.

    python tools/choose_budgets.py configs/setr_mspe_camvid.py CHECKPOINT --adapter adapter.safetensors --min-metric 0.98 \
        --out adapter_with_budgets.safetensors

The validation set of the config measures: val_dataloader and val_evaluator.
"""
import argparse
import json
from pathlib import Path

from mmengine.dist import is_main_process

from mspe_mm.errors import InputError
from mspe_mm.evaluation.budget_choice import choice_table, choose_budgets
from mspe_mm.evaluation.tasks import task_of
from mspe_mm.models.adapter import read_adapter, save_adapter
from mspe_mm.runtime import cli
from mspe_mm.runtime.runner import layer_key
from mspe_mm.runtime.sizes import full_grids, full_sizes, parse_grid, parse_resolution


def share(text):
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a share: give a number above 0, at most 1')
    return float(text)


def parse_args():
    parser = cli.parser('Choose token grids for resolutions', checkpoint=True)
    parser.add_argument('--min-metric', type=share, default=0.98, metavar='SHARE',
                        help='share of the metric at the base resolution that a grid has to keep; default %(default)s')
    parser.add_argument('--resolutions', nargs='+', type=parse_resolution, metavar='R',
                        help='resolutions that the base resolution is resized to: HEIGHTxWIDTH, or a height alone; default '
                        "the native resolutions of the adapter's kernels on the base grid")
    parser.add_argument('--token-grid', nargs='+', type=parse_grid, metavar='N',
                        help='grids to choose from, besides the base grid: ROWSxCOLUMNS, or a number of rows; default those '
                        'with kernels of their own')
    parser.add_argument('--out', required=True, help='adapter to write (.safetensors)')
    return parser.parse_args()


def main():
    args = parse_args()
    if not args.adapter:
        raise InputError('grids are chosen for tuned kernels: give --adapter FILE')
    args.work_dir = args.work_dir or str(Path(args.out).parent / 'log')
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    if not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
        raise InputError(f'config {args.config} has no val_dataloader and val_evaluator, which measure the grids')
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    task = task_of(cfg)
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'ERROR'
    cfg.setdefault('strict_load', True)
    runner = cli.build_runner(cfg)
    layer = cli.require_mspe(runner.model, args.config)
    runner.load_or_resume()
    base = layer.base_resolution
    given = full_sizes(args.resolutions or [[k * n for n in layer.grid_size] for k in layer.own_sizes], base)
    resolutions = [size for size in given if size != base]
    grids = full_grids(args.token_grid, layer.grid_size) if args.token_grid else [*layer.token_grids]
    tokens = layer.grid_size[0] * layer.grid_size[1]
    grids = [grid for grid in grids if grid[0] * grid[1] < tokens]
    if not grids:
        raise InputError(f'there is no grid of less than {tokens} tokens to choose: give --token-grid, or tune kernels for '
                         f'one ({layer_key(cfg)}.token_grids)')
    layer.budgets = {}
    layer.budgets, rows = choose_budgets(runner, resolutions, grids, args.min_metric)
    if is_main_process():
        seconds = json.loads(read_adapter(args.adapter)[1].get('training_seconds', 'null'))
        save_adapter(layer, args.out, seconds)
        print(choice_table(layer.budgets, rows, task.HEADLINE_METRICS))
        print(f'written to {args.out}')


if __name__ == '__main__':
    cli.run(main)
