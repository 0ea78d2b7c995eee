"""Make a synthetic data set: python tools/make_synthetic.py data/synthetic

    python tools/make_synthetic.py data/synthetic_detection --task detection
    python tools/make_synthetic.py data/synthetic_folders --task classification --size 64 64
"""
import argparse
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tqdm import tqdm

from mspe_mm.data.synthetic import write_synthetic, write_synthetic_detection, write_synthetic_folders
from mspe_mm.runtime import cli


class Task(NamedTuple):
    """How a data set is written, and what it has by default."""

    write: Callable[..., bool]
    train: int = 600
    val: int = 100
    size: tuple[int, int] = (128, 128)


TASKS = dict(
    dense=Task(write_synthetic),
    detection=Task(write_synthetic_detection, train=4000, val=500, size=(192, 192)),
    classification=Task(write_synthetic_folders))


def parse_args():
    parser = argparse.ArgumentParser(description='Make a synthetic data set: textured objects with exact masks')
    parser.add_argument('out', help='folder to write to')
    parser.add_argument('--task', choices=TASKS, default='dense',
                        help='scenes with masks and instances; overlapping objects of many sizes with instances; or one '
                             'object an image in class folders; default %(default)s')
    parser.add_argument('--train', type=cli.positive, metavar='N', help='training images; default 600, detection 4000')
    parser.add_argument('--val', type=cli.positive, metavar='N', help='validation images; default 100, detection 500')
    parser.add_argument('--size', type=cli.positive, nargs=2, metavar=('H', 'W'),
                        help='height and width of the images in pixels; default 128 128, detection 192 192')
    parser.add_argument('--seed', type=int, default=0, help='default %(default)s')
    return parser.parse_args()


def main():
    args = parse_args()
    task = TASKS[args.task]
    train, val, size = args.train or task.train, args.val or task.val, tuple(args.size or task.size)
    written = task.write(args.out, train, val, size, args.seed, progress=partial(tqdm, desc=args.out, unit='image'))
    print(f'{args.out} {"holds" if written else "already holds"} the synthetic data set: {train} training and '
          f'{val} validation images of {size[0]} x {size[1]} px, seed {args.seed}')


if __name__ == '__main__':
    cli.run(main)
