"""Export a segmentor, a classifier, or the backbone and neck of a detector as static graphs for other runtimes.

    python tools/export.py configs/setr_mspe_synthetic.py CHECKPOINT --adapter adapter.safetensors \
        --resolutions 32 64 128 --out-dir exported

writes encoder.onnx, which is the same at every resolution, a small embed_R.onnx for each, and export.json, which says how
they are used; docs/run_onnx.py does. CHECKPOINT is '-' for a model with weights of its own.
"""
import argparse
from pathlib import Path

from mspe_mm.errors import InputError
from mspe_mm.export.exporter import DYNAMIC, export, size_name
from mspe_mm.export.formats import FORMATS
from mspe_mm.inference.predictor import load
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import full_sizes, parse_resolution


def resolution(text):
    """As of the other tools; None for a dynamic one."""
    try:
        return parse_resolution(text)
    except argparse.ArgumentTypeError:
        if text.lower() in ('dynamic', 'any', '-1', '-1x-1', '?', '?x?'):
            return None
        raise


def parse_args():
    parser = cli.parser('Export a model as static graphs', checkpoint=True)
    parser.add_argument('--resolutions', nargs='+', type=resolution, required=True, metavar='R',
                        help='sizes of images in pixels: HEIGHTxWIDTH, or a height alone for the base aspect ratio')
    parser.add_argument('--format', choices=list(FORMATS), default='onnx',
                        help='onnx, or torch for programs of torch.export; default %(default)s')
    parser.add_argument('--merge', action='store_true',
                        help='one file for each resolution, and the weights that they share in weights.bin (onnx)')
    parser.add_argument('--batch-size', type=cli.positive, default=1, metavar='N',
                        help='images in a call; default %(default)s')
    parser.add_argument('--out-dir', required=True, help='folder for the graphs and export.json')
    return parser.parse_args()


def main():
    args = parse_args()
    if None in args.resolutions:
        raise InputError(DYNAMIC)
    checkpoint = None if args.checkpoint == '-' else args.checkpoint
    model = load(cli.load_config(args), checkpoint, args.adapter, device='cpu').model
    sizes = full_sizes(args.resolutions, model.mspe_layer.base_resolution)
    found = export(model, sizes, args.out_dir, args.format, args.merge, args.batch_size)
    for entry in found['resolutions']:
        print(f'{size_name(entry["size"])}: {" + ".join(entry["files"])}, largest difference to the model '
              f'{entry["difference"]:.1e} at outputs of up to {entry["largest"]:.1f}')
    for path in sorted(path for path in Path(args.out_dir).iterdir() if path.is_file()):
        print(f'{path.stat().st_size / 2**20:8.2f} MiB  {path}')


if __name__ == '__main__':
    cli.run(main, fast_products=False)    # a graph is made of PyTorch's own operations
