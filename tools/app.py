"""Show the methods side by side in the browser: drop an image in and move the resolution.

    python tools/app.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors

CONFIG and CHECKPOINT may be those of a stock model of mmseg or mmdet. The page is served on this machine alone unless --host
says otherwise. It needs Gradio, the extra [app].
"""
import argparse
from pathlib import Path

from mspe_mm.app.comparison import compare
from mspe_mm.app.page import make_page, serve
from mspe_mm.inference.predictor import load
from mspe_mm.runtime import cli
from mspe_mm.runtime.fast_products import fast_cpu_products
from mspe_mm.runtime.sizes import full_sizes


def parse_args():
    parser = argparse.ArgumentParser(description='Show the methods side by side in the browser', parents=[cli.TRUST])
    parser.add_argument('config', help='config of this package, or of a stock model of mmseg or mmdet')
    parser.add_argument('checkpoint', help="its weights, path or URL; '-' for a timm model that loads its own")
    parser.add_argument('--adapter', metavar='FILE', help='tuned patch embedding (.safetensors)')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default the GPU, if there is one')
    parser.add_argument('--host', default='127.0.0.1', help='network address to serve at; default %(default)s, this machine '
                        'alone. Whoever reaches another address can use the model')
    parser.add_argument('--port', type=cli.positive, help='default the first free one from 7860')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='settings that override the config')
    return parser.parse_args()


def main():
    args = parse_args()
    predictor = load(cli.read_config(args.config, args.cfg_options), None if args.checkpoint == '-' else args.checkpoint,
                     args.adapter, args.device)
    layer = predictor.model.mspe_layer
    base, rows = layer.base_resolution, layer.grid_size[0]

    def compare_at(image, height):
        with fast_cpu_products():    # in this thread, too
            return compare(predictor, image, *full_sizes([[height]], base))

    page = make_page(compare_at, f'{Path(args.config).stem}: methods at low resolution', (rows, base[0]))
    serve(page, args.host, args.port)


if __name__ == '__main__':
    cli.run(main)
