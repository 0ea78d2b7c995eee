"""Merge a base checkpoint and its adapter into one checkpoint, for programs that do not read adapters.

    python tools/merge_adapter.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors --out merged.pth
"""
import sys

import torch

from mspe_mm.errors import InputError
from mspe_mm.files import replacing
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.runtime import cli
from mspe_mm.runtime.runner import load_adapter_for


def parse_args():
    parser = cli.parser('Merge an adapter into its base checkpoint', checkpoint=True)
    parser.add_argument('--out', required=True, help='checkpoint to write')
    return parser.parse_args()


def main():
    args = parse_args()
    if not args.adapter:
        raise InputError('there is nothing to merge: give --adapter FILE')
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    model = cli.build_model(cfg)
    layer = cli.require_mspe(model, args.config)
    meta = {}
    if args.checkpoint:
        checkpoint = load_weights(model, args.checkpoint)
        meta = checkpoint.get('meta', {}) if 'state_dict' in checkpoint else {}
    load_adapter_for(cfg, layer, args.adapter)
    with replacing(args.out) as temporary, open(temporary, 'wb') as file:    # for a path PyTorch hides the system's error
        torch.save(dict(meta=meta, state_dict=model.state_dict()), file)
    if layer.budgets:
        print('warning: the token grids that the adapter has for resolutions are not in a checkpoint: the merged model has '
              'the base grid, or what --token-grid asks for', file=sys.stderr)
    print(f'written to {args.out}')


if __name__ == '__main__':
    cli.run(main)
