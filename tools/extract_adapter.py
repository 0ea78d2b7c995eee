"""The adapter of a tuned checkpoint, such as the best of a training.

    python tools/extract_adapter.py my_mspe.py work_dirs/my_mspe/best_mIoU@1_4_epoch_3.pth --out adapter.safetensors
"""
from mspe_mm.errors import InputError
from mspe_mm.models.adapter import save_adapter
from mspe_mm.models.checkpoint import load_weights, training_seconds
from mspe_mm.runtime import cli


def parse_args():
    parser = cli.parser('Extract the adapter of a tuned checkpoint', checkpoint=True)
    parser.add_argument('--out', required=True, help='adapter to write (.safetensors)')
    return parser.parse_args()


def main():
    args = parse_args()
    if not args.checkpoint or args.adapter:
        raise InputError('give a tuned CHECKPOINT after the config, and no --adapter')
    model = cli.build_model(cli.load_config(args))
    layer = cli.require_mspe(model, args.config)
    checkpoint = load_weights(model, args.checkpoint)
    if not layer.is_tuned():
        raise InputError(f'checkpoint {args.checkpoint} has no tuned kernel: give one of a training with {args.config}')
    save_adapter(layer, args.out, training_seconds(checkpoint.get('message_hub', {}).get('log_scalars', {})))
    print(f'written to {args.out}')


if __name__ == '__main__':
    cli.run(main)
