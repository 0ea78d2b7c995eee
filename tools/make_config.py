"""Write the config that tunes the patch embedding of your model, on top of its own config.

    python tools/make_config.py my_setr.py my_setr.pth my_mspe.py
    python tools/train.py my_mspe.py

It says what changes on top of MY_CONFIG: the model with the MSPE layer, the schedule, validation at low resolutions, and
test pipelines that leave small images at their size. Read it, and change what you like.
"""
import argparse
import os
from pathlib import Path

from mmengine.config import Config

from mspe_mm.errors import InputError
from mspe_mm.files import replacing
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.runtime import cli
from mspe_mm.runtime.config_bases import config_path
from mspe_mm.runtime.tuning_config import changes, fit_to_layer, tuning_config


def parse_args():
    parser = argparse.ArgumentParser(description="Write the config that tunes your model's patch embedding",
                                     parents=[cli.TRUST])
    parser.add_argument('config', help='the config that your model was trained with')
    parser.add_argument('checkpoint', help='its weights, path or URL')
    parser.add_argument('out', help='config to write (.py)')
    return parser.parse_args()


def base_path(config, out):
    """The path of a config as ``_base_`` of ``out``: relative within the working directory, else absolute."""
    config, here = Path(config_path(config)).resolve(), Path.cwd()
    inside = config.is_relative_to(here) and out.resolve().is_relative_to(here)
    return os.path.relpath(config, out.resolve().parent) if inside else str(config)


def main():
    args = parse_args()
    out = Path(args.out)
    if out.suffix != '.py':
        raise InputError(f'{out} must end in .py, as configs do')
    if out.exists():
        raise InputError(f'{out} exists: give another name, or remove it')
    before = cli.read_config(args.config)
    after = tuning_config(before, args.checkpoint)
    model = cli.build_model(after)
    layer = cli.require_mspe(model, args.config)
    load_weights(model, args.checkpoint)
    fit_to_layer(after, layer)
    height, width = layer.base_resolution
    about = (f'base resolution {height} x {width} px, patches of {layer.patch_size} px, {after.train_cfg.max_iters} '
             f'iterations of {after.train_dataloader.get("batch_size", 1)} images a process')
    difference = changes(before.to_dict(), after.to_dict())
    text = '\n'.join([f'# Tunes the patch embedding of {args.config}: {about}.',
                      f'_base_ = {base_path(args.config, out)!r}', Config(difference).pretty_text])
    with replacing(out) as temporary:
        Path(temporary).write_text(text)
    print(f'{about}\nwritten to {out}; tune with: python tools/train.py {out}')


if __name__ == '__main__':
    cli.run(main)
