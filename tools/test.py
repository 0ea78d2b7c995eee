"""Evaluate a checkpoint at the config's own resolution: python tools/test.py CONFIG CHECKPOINT [--adapter FILE]"""
from contextlib import nullcontext
from pathlib import Path

from mspe_mm.errors import InputError
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import add_grid_argument, forced_grid, warning_off_grid


def parse_args():
    parser = cli.parser('Test (and evaluate) a model', checkpoint=True)
    parser.add_argument('--out', help='folder for the predictions, for offline evaluation')
    parser.add_argument('--show', action='store_true', help='show the predictions')
    parser.add_argument('--show-dir', help='folder for images with the predictions drawn on them')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds to show each prediction')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_grid_argument(parser)
    cli.add_speed_arguments(parser)
    return parser.parse_args()


def save_predictions(cfg, out):
    """Have the evaluators of a config save the predictions to a folder."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    if cfg.get('default_scope') == 'mmengine':
        cfg.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=f'{out}/predictions.pkl')]
        return
    for evaluator in evaluators:
        if evaluator.type == 'CocoMetric':
            evaluator.outfile_prefix = str(Path(out) / 'results')
        else:
            evaluator.update(output_dir=out, keep_results=True)


def main():
    args = parse_args()
    cfg = cli.load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    cfg.setdefault('strict_load', True)
    cli.require_weights(cfg, args)
    if (args.show or args.show_dir) and cfg.get('default_scope') == 'mmengine':
        raise InputError('predictions of a classifier are not painted: give --out FOLDER instead of --show')
    if args.show or args.show_dir:
        visualization = cfg.setdefault('default_hooks', {}).setdefault('visualization', dict(type='SegVisualizationHook'))
        visualization.update(draw=True, show=args.show, wait_time=args.wait_time)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        if 'tta_pipeline' not in cfg:
            raise InputError(f'config {args.config} has no tta_pipeline and tta_model, which --tta needs')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(**cfg.tta_model, module=cfg.model)
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        save_predictions(cfg, args.out)
    runner = cli.build_runner(cfg)
    cli.speed_up(runner.model, args)
    layer = cli.require_mspe(runner.model, args.config) if args.token_grid else None
    with layer.force_grid(forced_grid(layer, args)) if layer else nullcontext(), warning_off_grid(runner.model):
        runner.test()


if __name__ == '__main__':
    cli.run(main)
