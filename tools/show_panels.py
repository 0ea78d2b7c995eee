"""Show a few images as the model sees them, with their annotations and the predictions of several methods.

    python tools/show_panels.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors \
        --resolutions 128 256 --methods vanilla flexivit mspe --images 3 --out panels.png
"""
from mspe_mm.data.pairs import evenly
from mspe_mm.errors import InputError
from mspe_mm.evaluation.methods import FROM_FILES, METHODS
from mspe_mm.evaluation.panels import draw, predict
from mspe_mm.models.adapter import adapter_layer
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import full_sizes, parse_resolution, warn_off_grid


def parse_args():
    parser = cli.parser('Show predictions of several methods side by side', checkpoint=True)
    parser.add_argument('--resolutions', nargs='+', type=parse_resolution, required=True, metavar='R',
                        help='resolutions that the base resolution is resized to: HEIGHTxWIDTH, or a height alone')
    choices = [method for method in METHODS if method != 'finetuned']
    parser.add_argument('--methods', nargs='+', choices=choices, metavar='METHOD',
                        help=f'any of {", ".join(choices)}; default all but calibrated without --calibrated')
    parser.add_argument('--calibrated', metavar='FILE', help='adapter of tools/calibrate.py for the method calibrated')
    parser.add_argument('--images', type=cli.positive, default=2, metavar='N',
                        help='number of images, evenly spaced in the test set; default 2')
    parser.add_argument('--out', required=True, metavar='FILE', help='PNG file to write')
    args = parser.parse_args()
    args.methods = args.methods or [method for method in choices if method not in FROM_FILES or args.calibrated]
    return args


def main():
    args = parse_args()
    if 'calibrated' in args.methods and not args.calibrated:
        raise InputError('the method calibrated needs --calibrated FILE, an adapter of tools/calibrate.py')
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    if cfg.get('default_scope') != 'mmseg':
        raise InputError(f'panels are of segmentation, and default_scope of {args.config} is '
                         f'{cfg.get("default_scope")!r}: give tools/test.py --show-dir for other tasks')
    cfg.load_from, cfg.resume, cfg.log_level = args.checkpoint, False, 'ERROR'
    cfg.setdefault('strict_load', True)
    runner = cli.build_runner(cfg)
    layer = cli.require_mspe(runner.model, args.config)
    runner.load_or_resume()
    calibrated = adapter_layer(layer, args.calibrated) if args.calibrated else None
    dataset = runner.build_dataloader(cfg.test_dataloader).dataset
    if not 1 <= args.images <= len(dataset):
        raise InputError(f'--images must be from 1 to the {len(dataset)} images of the test set, got {args.images}')
    indices = evenly(args.images, len(dataset))
    resolutions = full_sizes(args.resolutions, layer.base_resolution)
    warn_off_grid(layer, resolutions)
    panels = {(method, resolution): predict(runner, method, resolution, indices, calibrated=calibrated)
              for method in args.methods for resolution in resolutions}
    draw(panels, dataset.metainfo['palette'], args.out)
    print(f'written to {args.out}')


if __name__ == '__main__':
    cli.run(main)
