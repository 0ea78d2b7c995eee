"""Compare methods at several resolutions on one checkpoint: a table, results.json and curve.png.

    python tools/eval_multiscale.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors \
        --resolutions 128 256 512 --methods vanilla img_resize flexivit mspe --out-dir results/ade20k

Or compare accuracy and cost of token grids at one resolution (default the base): a table, results.json and trade_off.png.

    python tools/eval_multiscale.py configs/vit-b_mspe_imagenet.py --token-grid 7 14 28 --out-dir results/budgets

An interrupted sweep continues with --resume. It keeps the rows of results.json, those of other methods and resolutions too,
if config and weights are the same. Rows of mspe, calibrated and finetuned must also have the same kernels or checkpoint:
after a new tuning, --resume measures mspe alone. The contents of files are compared, not their names.
"""
import json
import sys
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from mspe_mm.errors import InputError
from mspe_mm.evaluation.methods import FROM_FILES, METHODS
from mspe_mm.evaluation.report import write_report
from mspe_mm.evaluation.run_identity import method_digests, run_digests
from mspe_mm.evaluation.sweep import sweep
from mspe_mm.evaluation.tasks import task_of
from mspe_mm.evaluation.token_budgets import budget_sweep, write_budget_report
from mspe_mm.models.adapter import adapter_layer, read_adapter
from mspe_mm.models.checkpoint import read_weights, training_seconds
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import full_grids, full_sizes, parse_grid, parse_resolution, warn_off_grid


def parse_args():
    parser = cli.parser('Evaluate methods at several resolutions', checkpoint=True)
    parser.add_argument('--resolutions', nargs='+', type=parse_resolution, metavar='R',
                        help='resolutions that the base resolution is resized to: HEIGHTxWIDTH, or a height alone '
                        'in the aspect ratio of the base resolution')
    parser.add_argument('--token-grid', nargs='+', type=parse_grid, metavar='N',
                        help='token grids for images of one resolution: ROWSxCOLUMNS, or a number of rows')
    parser.add_argument('--methods', nargs='+', choices=METHODS, metavar='METHOD',
                        help=f'any of {", ".join(METHODS)}; default all; {" and ".join(FROM_FILES)} only '
                        'if their options are given, finetuned only without --token-grid')
    parser.add_argument('--calibrated', metavar='FILE', help='adapter of tools/calibrate.py for the method calibrated')
    parser.add_argument('--finetuned', metavar='CHECKPOINT', help='checkpoint of the stock architecture or of this one '
                        'in which all weights were trained, for the method finetuned')
    parser.add_argument('--degrade', metavar='KEY', help='key of a pipeline in the config that lowers the resolution of '
                        "images; default one resize by the layer's downsampling model")
    parser.add_argument('--out-dir', required=True, help='folder for results.json, table.md and the figure')
    parser.add_argument('--bootstrap', type=cli.not_negative, default=0, metavar='N',
                        help='number of resamples for 95%% intervals over images, such as 1000; default none')
    parser.add_argument('--resume', action='store_true', help='keep the rows of the same run in OUT_DIR/results.json')
    cli.add_speed_arguments(parser)
    args = parser.parse_args()
    if not (args.resolutions or args.token_grid):
        parser.error('--resolutions or --token-grid must be given')
    if args.token_grid and len(args.resolutions or [0]) > 1:
        parser.error('--token-grid takes one resolution: give one value to --resolutions, or leave it out for the base')
    if args.token_grid and 'finetuned' in (args.methods or []):
        parser.error('--token-grid has no finetuned: measure it at --resolutions, which its token grid follows')
    if Path(args.out_dir).exists() and not Path(args.out_dir).is_dir():
        parser.error(f'--out-dir {args.out_dir} is a file: give a folder')
    left_out = {'finetuned'} if args.token_grid else set()
    left_out |= {method for method in FROM_FILES if not getattr(args, method)}
    args.methods = args.methods or [method for method in METHODS if method not in left_out]
    return args


def main():
    args = parse_args()
    if 'calibrated' in args.methods and not args.calibrated:
        raise InputError('the method calibrated needs --calibrated FILE, an adapter of tools/calibrate.py')
    if 'finetuned' in args.methods and not args.finetuned:
        raise InputError('the method finetuned needs --finetuned CHECKPOINT, in which all weights were trained')
    args.work_dir = args.work_dir or str(Path(args.out_dir) / 'log')
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    task = task_of(cfg)
    task.evaluator_config(cfg.test_evaluator, args.bootstrap)    # refuses before anything is loaded
    degrade = cli.read_pipeline(cfg, args.degrade)
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'ERROR'
    cfg.setdefault('strict_load', True)
    runner = cli.build_runner(cfg)
    layer = cli.require_mspe(runner.model, args.config)
    speed = cli.speed_up(runner.model, args)
    runner.load_or_resume()
    if 'mspe' in args.methods and not layer.is_tuned():
        print('warning: no kernel is tuned, so mspe is untrained here: give --adapter or a tuned checkpoint',
              file=sys.stderr)

    height, width = layer.base_resolution
    resolutions = full_sizes(args.resolutions or [[height, width]], (height, width))
    warn_off_grid(layer, resolutions)
    calibrated = adapter_layer(layer, args.calibrated) if args.calibrated else None
    finetuned, seconds = None, {}
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if args.finetuned:
        finetuned, checkpoint = read_weights(model, args.finetuned)
        seconds['finetuned'] = training_seconds(checkpoint.get('message_hub', {}).get('log_scalars', {}))
    if args.adapter:
        seconds['mspe'] = json.loads(read_adapter(args.adapter)[1].get('training_seconds', 'null'))
    dataset = runner.build_dataloader(cfg.test_dataloader).dataset
    header = dict(dataset=cfg.get('dataset_name', type(dataset).__name__), images=len(dataset), config=args.config,
                  checkpoint=args.checkpoint, adapter=args.adapter, calibrated=args.calibrated,
                  finetuned=args.finetuned, training_seconds=seconds or None, degrade=degrade,
                  reference_resolution=[height, width],
                  downsampling=dict(interpolation=layer.downsampling.interpolation, antialias=layer.downsampling.antialias),
                  bootstrap=args.bootstrap, **speed, digests=run_digests(runner.cfg, model))
    metrics = task.HEADLINE_METRICS, task.TABLE_METRICS
    settings = dict(calibrated=calibrated, degrade=degrade, finetuned=finetuned, warm_up=args.compile,
                    digests=method_digests(layer, args.methods, args.calibrated, finetuned))
    run = args.out_dir, header, args.bootstrap, args.resume
    if args.token_grid:
        grids = full_grids(args.token_grid, layer.grid_size)
        results = budget_sweep(runner, args.methods, grids, resolutions[0], *run, **settings)
    else:
        results = sweep(runner, args.methods, resolutions, *run, **settings)
    if is_main_process():
        print((write_budget_report if args.token_grid else write_report)(results, args.out_dir, *metrics))
        print(f'written to {args.out_dir}: results.json, table.md, {"trade_off" if args.token_grid else "curve"}.png')


if __name__ == '__main__':
    cli.run(main)
