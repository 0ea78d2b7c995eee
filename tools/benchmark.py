"""Speed and memory as ratios to peers in the same process: a table, results.json and figure.png.

    python tools/benchmark.py resize
    python tools/benchmark.py backbone --models base --base-resolution 512 --resolutions 128 512
    python tools/benchmark.py train-step --models base --resolutions 512 --networks setr
    python tools/benchmark.py inference --models base --base-resolution 512 --resolutions 128 256 512
    python tools/benchmark.py export --models base --base-resolution 512 --resolutions 128 256 512
    python tools/benchmark.py end-to-end --models base --resolutions 512
    python tools/benchmark.py mixed-sizes --models base --resolutions 512
"""
import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from mspe_mm.benchmark.arguments import check_device
from mspe_mm.benchmark.cases import backbone, end_to_end, export, inference, mixed_sizes, resize, train_step
from mspe_mm.benchmark.environment import environment
from mspe_mm.benchmark.models import SIZES
from mspe_mm.benchmark.ratios import Settings, measure
from mspe_mm.benchmark.tables import write_report
from mspe_mm.evaluation.report import save_json
from mspe_mm.runtime import cli

CASES = {'resize': resize, 'backbone': backbone, 'train-step': train_step, 'inference': inference, 'export': export,
         'end-to-end': end_to_end, 'mixed-sizes': mixed_sizes}


def whole(text, least=0):
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least {least}')
    return int(text)


positive = partial(whole, least=1)


def parse_args():
    parser = argparse.ArgumentParser(description='Measure speed and memory as ratios to peers in the same process')
    cases = parser.add_subparsers(dest='case', required=True, metavar='CASE')
    for name, module in CASES.items():
        summary = module.__doc__.splitlines()[0]
        case = cases.add_parser(name, help=summary, description=module.__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
        case.add_argument('--models', nargs='+', choices=SIZES, metavar='SIZE',
                          default=['base', 'large'] if module is resize else ['tiny'],
                          help=f'sizes of the ViT: {", ".join(SIZES)}; default %(default)s')
        add_arguments(case, module)
        on_gpu = torch.cuda.is_available() and module is not export
        case.add_argument('--device', default='cuda' if on_gpu else 'cpu', help='default %(default)s')
        case.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32',
                          help='dtype of the weights (resize, backbone) or of mixed precision (the other cases); default '
                          '%(default)s')
        case.add_argument('--threads', type=positive, default=torch.get_num_threads(), metavar='N',
                          help='number of threads on a CPU; default %(default)s')
        case.add_argument('--repeats', type=positive, default=10, metavar='N',
                          help='rounds in which each candidate runs once; default %(default)s')
        case.add_argument('--out-dir', help='folder for the results; default work_dirs/benchmark/CASE')
        case.set_defaults(compile=False, batch_size=1, memory=True)
    return parser.parse_args()


def add_arguments(case, module):
    """Add the arguments that only some cases have."""
    if module is resize:
        case.add_argument('--sizes', nargs='+', type=positive, default=[12, 24, 32, 48], metavar='K',
                          help='patch sizes to resize to, in pixels; default %(default)s')
        return
    if hasattr(module, 'NETWORKS'):
        case.add_argument('--networks', nargs='+', choices=module.NETWORKS, metavar='NETWORK',
                          default=[network for network in module.NETWORKS if network != 'mask-rcnn'],    # seconds a step
                          help=f'any of {", ".join(module.NETWORKS)}; default %(default)s')
        case.add_argument('--batch-size', type=positive, metavar='N', help='images of a step; default 1')
    if hasattr(module, 'NETWORKS') and module is not export:    # whose memory is that of writing the files
        case.add_argument('--no-memory', action='store_false', dest='memory', help='measure no memory')
    if module in (backbone, inference, export):
        case.add_argument('--base-resolution', type=positive, default=128, metavar='R',
                          help='base resolution in pixels; default %(default)s')
        case.add_argument('--resolutions', nargs='+', type=positive, metavar='R',
                          help='resolutions of the images in pixels; default half, once and twice the base resolution')
    else:
        case.add_argument('--resolutions', nargs='+', type=positive, default=[128], metavar='R',
                          help='base resolutions in pixels; default %(default)s')
    if module is inference:
        case.add_argument('--token-grids', nargs='+', type=positive, default=[], metavar='N',
                          help='also predict on N x N tokens instead of the base grid')
    if module in (backbone, train_step):
        case.add_argument('--peer-path', metavar='FOLDER',
                          help='checkout of mmdetection with projects/ViTDet; without one the peer is a naive ViTDet')
    if module is end_to_end:
        case.add_argument('--images', type=positive, default=20, metavar='N', help='in the data set; default %(default)s')
        case.add_argument('--workers', type=whole, default=0, metavar='N', help='processes that load; default %(default)s')
    if module is mixed_sizes:
        case.add_argument('--images', type=positive, default=64, metavar='N', help='in a batch; default %(default)s')
    case.add_argument('--compile', action='store_true', help="compile the backbones, ours and the peers'")


def comparisons(args, settings):
    """The comparisons of a case."""
    if args.case == 'resize':
        return resize.comparisons(settings, args.models, args.sizes)
    if args.case == 'end-to-end':
        return end_to_end.comparisons(settings, args.models, args.resolutions, args.images, args.workers, args.out_dir)
    if args.case == 'mixed-sizes':
        return mixed_sizes.comparisons(settings, args.models, args.resolutions, args.images)
    given = dict(settings=settings, models=args.models, networks=args.networks, resolutions=args.resolutions)
    if args.case != 'train-step':
        base = args.base_resolution
        given.update(base=base, resolutions=args.resolutions or [base // 2, base, 2 * base])
    if args.case == 'inference':
        given.update(token_grids=args.token_grids)
    if args.case in ('backbone', 'train-step'):
        given.update(peer_path=args.peer_path)
    return CASES[args.case].comparisons(**given)


def main():
    args = parse_args()
    dtype = getattr(torch, args.dtype)
    check_device(args.device, dtype)
    torch.set_num_threads(args.threads)
    args.out_dir = args.out_dir or f'work_dirs/benchmark/{args.case}'
    settings = Settings(args.device, dtype, args.compile, args.threads, args.repeats, args.batch_size, args.memory)
    todo = comparisons(args, settings)
    if 'vitdet' in getattr(args, 'networks', []) and getattr(args, 'peer_path', '') is None:
        print("note: without --peer-path the peer is a naive ViTDet instead of mmdetection's ViTDet project",
              file=sys.stderr)
    results = dict(case=args.case, command=' '.join(sys.argv), environment=environment(args.device),
                   settings=dict(asdict(settings), dtype=args.dtype), rows=[])
    for number, comparison in enumerate(todo, 1):
        title = f'{number}/{len(todo)} {", ".join(comparison.labels.values())}'
        results['rows'] += measure(comparison, settings, partial(tqdm, desc=title, unit='round', disable=None))
        save_json(results, Path(args.out_dir) / 'results.json')    # finished comparisons survive an interruption
    print(write_report(results, args.out_dir))
    print(f'written to {args.out_dir}: results.json, table.md, figure.png')


if __name__ == '__main__':
    cli.run(main, fast_products=False)    # each candidate chooses
