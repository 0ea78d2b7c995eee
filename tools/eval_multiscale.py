"""Compare methods over resolutions from one checkpoint: a table, results.json and curve.png.

    python tools/eval_multiscale.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors \
        --resolutions 128 256 512 --methods vanilla img_resize flexivit mspe --out-dir results/ade20k
"""
import argparse
import re
import sys
from pathlib import Path

from mmengine.dist import is_main_process

from mspe_mm.evaluation.methods import METHODS
from mspe_mm.evaluation.report import write_report
from mspe_mm.evaluation.sweep import sweep
from mspe_mm.evaluation.tasks import task_of
from mspe_mm.runtime import cli


def resolution(text):
    if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is no resolution: give a positive height in pixels, or HEIGHTxWIDTH')
    return [int(length) for length in text.split('x')]


def parse_args():
    parser = cli.parser('Evaluate methods at several resolutions', checkpoint=True)
    parser.add_argument('--resolutions', nargs='+', type=resolution, required=True, metavar='R',
                        help='resolutions that the base resolution becomes: HEIGHTxWIDTH, or a height alone in the base '
                        "resolution's aspect ratio")
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=list(METHODS), metavar='METHOD',
                        help=f'any of {", ".join(METHODS)}; default all')
    parser.add_argument('--out-dir', required=True, help='folder for results.json, table.md and curve.png')
    parser.add_argument('--bootstrap', type=int, default=0, metavar='N',
                        help='resamples for 95%% intervals over images (1000 is usual); default none')
    parser.add_argument('--resume', action='store_true', help='keep the rows that are already in OUT_DIR/results.json')
    return parser.parse_args()


def main():
    args = parse_args()
    args.work_dir = args.work_dir or str(Path(args.out_dir) / 'log')
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    task = task_of(cfg)
    task.evaluator_config(cfg.test_evaluator, args.bootstrap)    # refuses before anything is loaded
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'ERROR'
    cfg.setdefault('strict_load', True)
    runner = cli.build_runner(cfg)
    layer = cli.require_mspe(runner.model, args.config)
    runner.load_or_resume()
    if 'mspe' in args.methods and not layer.is_tuned():
        print('warning: no kernel has been tuned, so mspe is untrained here: give --adapter or a tuned checkpoint',
              file=sys.stderr)

    height, width = layer.base_resolution
    resolutions = [r if len(r) == 2 else [r[0], max(1, round(r[0] * width / height))] for r in args.resolutions]
    dataset = runner.build_dataloader(cfg.test_dataloader).dataset
    header = dict(dataset=cfg.get('dataset_name', type(dataset).__name__), images=len(dataset), config=args.config,
                  checkpoint=args.checkpoint, adapter=args.adapter, reference_resolution=[height, width],
                  downsampling=dict(interpolation=layer.interpolation, antialias=layer.antialias),
                  bootstrap=args.bootstrap)
    results = sweep(runner, args.methods, [tuple(r) for r in resolutions], args.out_dir, header, args.bootstrap, args.resume)
    if is_main_process():
        print(write_report(results, args.out_dir, task.HEADLINE_METRICS, task.TABLE_METRICS))
        print(f'written to {args.out_dir}: results.json, table.md, curve.png')


if __name__ == '__main__':
    cli.run(main)
