"""Make a synthetic data set: python tools/make_synthetic.py data/synthetic

    python tools/make_synthetic.py data/synthetic_folders --task classification --size 64 64
"""
import argparse
from functools import partial

from tqdm import tqdm

from mspe_mm.data.synthetic import write_synthetic, write_synthetic_folders
from mspe_mm.runtime import cli


def parse_args():
    parser = argparse.ArgumentParser(description='Make the synthetic data set: textured objects with exact masks')
    parser.add_argument('out', help='folder to write to')
    parser.add_argument('--task', choices=['dense', 'classification'], default='dense',
                        help='scenes with masks and instances, or one object an image in class folders; default %(default)s')
    parser.add_argument('--train', type=cli.positive, default=600, metavar='N', help='training images; default %(default)s')
    parser.add_argument('--val', type=cli.positive, default=100, metavar='N', help='validation images; default %(default)s')
    parser.add_argument('--size', type=cli.positive, nargs=2, default=(128, 128), metavar=('H', 'W'),
                        help='height and width of the images in pixels; default 128 128')
    parser.add_argument('--seed', type=int, default=0, help='default %(default)s')
    return parser.parse_args()


def main():
    args = parse_args()
    write = write_synthetic_folders if args.task == 'classification' else write_synthetic
    written = write(args.out, args.train, args.val, tuple(args.size), args.seed,
                    progress=partial(tqdm, desc=args.out, unit='image'))
    print(f'{args.out} {"holds" if written else "already holds"} the synthetic data set: {args.train} training and '
          f'{args.val} validation images of {args.size[0]} x {args.size[1]} px, seed {args.seed}')


if __name__ == '__main__':
    cli.run(main)
