"""Train a model, or tune the patch embedding of one: python tools/train.py configs/setr_mspe_ade20k.py"""
from mmengine.device import is_cuda_available

from mspe_mm.errors import InputError
from mspe_mm.runtime import cli
from mspe_mm.runtime.fileio import latest_checkpoint


def parse_args():
    parser = cli.parser('Train a model, or tune its patch embedding')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from a checkpoint, by default the latest in the work dir')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = cli.load_config(args)
    tuning = cfg.model.get('tuning') is not None
    cfg.setdefault('strict_load', tuning)    # frozen weights that do not load would stay random
    if tuning and not (cfg.get('load_from') or args.resume or cli.initialises_own_weights(cfg)):
        raise InputError(f'config {args.config} tunes a trained model, and none is given: add --cfg-options '
                         'load_from=CHECKPOINT')
    if args.adapter and not tuning:
        raise InputError(f'config {args.config} has no MSPE model to tune, so it cannot take --adapter')
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not is_cuda_available():
        raise InputError('mixed precision (--amp, AmpOptimWrapper) needs a GPU: mmengine has it on accelerators only')
    if args.resume:
        # With load_from set, the host would resume from the base checkpoint.
        checkpoint = latest_checkpoint(cfg.work_dir) if args.resume == 'auto' else args.resume
        if checkpoint:
            cfg.load_from, cfg.resume = checkpoint, True
    cli.build_runner(cfg).train()


if __name__ == '__main__':
    cli.run(main)
