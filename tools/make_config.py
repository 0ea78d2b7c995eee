"""Write the config that tunes the patch embedding of your model:

    python tools/make_config.py MY_CONFIG MY_CHECKPOINT my_mspe.py
    python tools/train.py my_mspe.py

It is whole and literal: the model with the MSPE layer, your data, the paper's schedule, and test pipelines that leave small
images at their size. Read it, and change what you like.
"""
import argparse
from pathlib import Path

from mmengine.config import Config

from mspe_mm.errors import InputError
from mspe_mm.files import replacing
from mspe_mm.runtime import cli
from mspe_mm.runtime.stock_config import base_resolution, tuning_config


def parse_args():
    parser = argparse.ArgumentParser(description="Write the config that tunes your model's patch embedding")
    parser.add_argument('config', help='the config that your model was trained with')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('out', help='config to write (.py)')
    return parser.parse_args()


def main():
    args = parse_args()
    if Path(args.out).suffix != '.py':
        raise InputError(f'{args.out} must end in .py, as configs do')
    if '://' not in args.checkpoint and not Path(args.checkpoint).is_file():
        raise InputError(f'checkpoint {args.checkpoint} does not exist')
    cfg = tuning_config(cli.read_config(args.config), args.checkpoint)
    with replacing(args.out) as temporary:
        Path(temporary).write_text(cfg.pretty_text)
    Config.fromfile(args.out)    # what was written is a config
    if cfg.default_scope != 'mmengine':
        print('base resolution {} x {} px'.format(*base_resolution(cfg)))
    print(f'written to {args.out}; tune with: python tools/train.py {args.out}')


if __name__ == '__main__':
    cli.run(main)
