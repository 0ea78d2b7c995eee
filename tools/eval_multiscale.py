"""Compare methods over resolutions from one checkpoint: a table, results.json and curve.png.

    python tools/eval_multiscale.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors \
        --resolutions 128 256 512 --methods vanilla img_resize flexivit mspe --out-dir results/ade20k
"""
import sys
from pathlib import Path

from mmengine.dist import is_main_process

from mspe_mm.core.adapter import adapter_layer
from mspe_mm.errors import InputError
from mspe_mm.evaluation import segmentation
from mspe_mm.evaluation.methods import METHODS
from mspe_mm.evaluation.report import write_report
from mspe_mm.evaluation.sweep import sweep
from mspe_mm.runtime import cli


def parse_args():
    parser = cli.parser('Evaluate methods at several resolutions', checkpoint=True)
    parser.add_argument('--resolutions', nargs='+', type=cli.resolution, required=True, metavar='R',
                        help='resolutions that the base resolution becomes: HEIGHTxWIDTH, or a height alone in the base '
                        "resolution's aspect ratio")
    parser.add_argument('--methods', nargs='+', choices=METHODS, metavar='METHOD',
                        help=f'any of {", ".join(METHODS)}; default all, calibrated only with --calibrated')
    parser.add_argument('--calibrated', metavar='FILE', help='adapter of tools/calibrate.py for the method calibrated')
    parser.add_argument('--degrade', metavar='KEY', help='pipeline of the config by which the images lose their '
                        "resolution; by default they are resized by the layer's downsampling model")
    parser.add_argument('--out-dir', required=True, help='folder for results.json, table.md and curve.png')
    parser.add_argument('--bootstrap', type=int, default=0, metavar='N',
                        help='resamples for 95%% intervals over images (1000 is usual); default none')
    parser.add_argument('--resume', action='store_true', help='keep the rows that are already in OUT_DIR/results.json')
    return parser.parse_args()


def main():
    args = parse_args()
    args.methods = args.methods or [method for method in METHODS if method != 'calibrated' or args.calibrated]
    if 'calibrated' in args.methods and not args.calibrated:
        raise InputError('the method calibrated needs --calibrated FILE, an adapter of tools/calibrate.py')
    args.work_dir = args.work_dir or str(Path(args.out_dir) / 'log')
    cfg = cli.load_config(args)
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'ERROR'
    cfg.setdefault('strict_load', True)
    runner = cli.build_runner(cfg)
    layer = cli.require_mspe(runner.model, args.config)
    runner.load_or_resume()
    if 'mspe' in args.methods and not layer.is_tuned():
        print('warning: no kernel has been tuned, so mspe is untrained here: give --adapter or a tuned checkpoint',
              file=sys.stderr)

    height, width = layer.base_resolution
    resolutions = cli.full_resolutions(args.resolutions, layer.base_resolution)
    calibrated = adapter_layer(layer, args.calibrated) if args.calibrated else None
    degrade = cli.read_pipeline(cfg, args.degrade)
    dataset = runner.build_dataloader(cfg.test_dataloader).dataset
    header = dict(dataset=cfg.get('dataset_name', type(dataset).__name__), images=len(dataset), config=args.config,
                  checkpoint=args.checkpoint, adapter=args.adapter, calibrated=args.calibrated, degrade=degrade,
                  reference_resolution=[height, width],
                  downsampling=dict(interpolation=layer.interpolation, antialias=layer.antialias),
                  bootstrap=args.bootstrap)
    results = sweep(runner, args.methods, resolutions, args.out_dir, header, args.bootstrap, args.resume,
                    calibrated=calibrated, degrade=degrade)
    if is_main_process():
        print(write_report(results, args.out_dir, segmentation.PRIMARY_METRIC, segmentation.TABLE_METRICS))
        print(f'written to {args.out_dir}: results.json, table.md, curve.png')


if __name__ == '__main__':
    cli.run(main)
