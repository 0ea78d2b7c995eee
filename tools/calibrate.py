"""Compute the patch kernels of other resolutions in closed form, from unlabelled images, and write an adapter.

    python tools/calibrate.py configs/setr_mspe_ade20k.py CHECKPOINT --images FOLDER --resolutions 128 256 384 \
        --out adapter.safetensors
"""
import math

from mmengine.dist import all_gather_object, get_dist_info, is_distributed
from prettytable import PrettyTable
from tqdm import tqdm

from mspe_mm.calibration.solver import RIDGES, Calibrator
from mspe_mm.data.change_resolution import ChangeResolution
from mspe_mm.data.image_folder import find_images
from mspe_mm.data.pairs import ImagePairs, evenly, image_steps, normalised
from mspe_mm.errors import InputError
from mspe_mm.models.adapter import save_adapter
from mspe_mm.models.checkpoint import load_weights
from mspe_mm.runtime import cli
from mspe_mm.runtime.data_checks import check_pipeline
from mspe_mm.runtime.processes import join_processes
from mspe_mm.runtime.randomness import seed_generators
from mspe_mm.runtime.runner import layer_key, load_adapter_for
from mspe_mm.runtime.sizes import full_sizes, parse_resolution, warn_off_grid


def ridge(text):
    value = -1. if text == 'auto' else float(text)
    if text != 'auto' and not 0 <= value < math.inf:
        raise ValueError
    return RIDGES if text == 'auto' else (value, )


def share(text):
    if not 0 < float(text) < 1:
        raise ValueError
    return float(text)


def parse_args():
    parser = cli.parser('Calibrate patch kernels on unlabelled images', checkpoint=True)
    parser.add_argument('--images', required=True, metavar='DIR', help='folder of images, read with its subfolders, or '
                        'WebDataset tars: shards/{000..099}.tar')
    parser.add_argument('--resolutions', nargs='+', type=parse_resolution, metavar='R',
                        help='resolutions that the base resolution is resized to: HEIGHTxWIDTH, or a height alone in the '
                        "aspect ratio of the base resolution; default the native resolutions of the config's kernels")
    parser.add_argument('--out', required=True, help='adapter to write (.safetensors)')
    parser.add_argument('--num-images', type=cli.positive, metavar='N',
                        help='use N of the images, evenly spaced; default all')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--degrade', metavar='KEY', help='key of a pipeline in the config that lowers the resolution of '
                     "images; default one resize by the layer's downsampling model")
    how.add_argument('--low-images', nargs='+', metavar='DIR', help='for each resolution a folder of the images at that '
                     'resolution, under the same file names')
    parser.add_argument('--holdout', type=share, default=0.2, metavar='SHARE',
                        help='share of the images that are held out, to choose the ridge and to measure the errors; default '
                        '%(default)s')
    parser.add_argument('--ridge', type=ridge, default=RIDGES, metavar='auto|VALUE',
                        help="weight of the penalty that pulls kernels towards PI-resize, relative to the images' variance; "
                        'default auto: the best one on the held-out images')
    return parser.parse_args()


def kernels_of(layer, given, key):
    """Patch sizes by resolution."""
    if not given and not layer.own_sizes:
        raise InputError(f'kernel_sizes={layer.kernel_sizes} names the pretrained kernel alone: give --resolutions')
    if not given:
        return {(k * layer.grid_size[0], k * layer.grid_size[1]): k for k in layer.own_sizes}
    sizes = {}
    resolutions = full_sizes(given, layer.base_resolution)
    warn_off_grid(layer, resolutions)
    for height, width in resolutions:
        k, other = layer.kernel_size((height, width))
        if k != other:
            raise InputError(f'{height} x {width} px are patches of {k} x {other} px, and kernels are kept square: give a '
                             f'resolution in the aspect ratio of {layer.base_resolution[0]} x {layer.base_resolution[1]}')
        if k == layer.patch_size and k not in layer.own_sizes:
            raise InputError(f'{height} x {width} px have patches of {k} px, as the base resolution has, whose kernel stays '
                             f'the pretrained one: to calibrate it too, add --cfg-options {key}.tune_base=True')
        if k in sizes.values():
            raise InputError(f'{height} x {width} px have patches of {k} px, as another of the resolutions: leave one of '
                             'them out')
        sizes[height, width] = k
    return sizes


def add_images(calibrator, pairs, preprocessor, held_out):
    """Add every image in one of the processes, and the images of all processes to each."""
    rank, processes = get_dist_info()
    failure = None
    try:
        for index in tqdm(range(rank, len(pairs), processes), desc='calibrate', unit='image',
                          disable=True if rank else None):
            seed_generators(0, index)    # for degradations with random numbers
            image, resized = pairs[index]
            calibrator.update(normalised(image, preprocessor),
                              {k: normalised(small, preprocessor) for k, small in resized.items()}, index in held_out)
    except InputError as error:
        failure = str(error)
    failures = [text for text in all_gather_object(failure) if text]
    if failures:    # a process that ends alone would leave the others waiting
        raise InputError(failures[0])
    if is_distributed():
        calibrator.all_reduce()


def main():
    args = parse_args()
    join_processes(args.launcher)
    cfg = cli.load_config(args)
    cli.require_weights(cfg, args)
    names = find_images(args.images)
    names = [names[i] for i in evenly(min(args.num_images or len(names), len(names)), len(names))]
    if len(names) < 2:
        raise InputError(f'{args.images}: calibrating takes two images at least, one to fit and one to hold out')
    degrade = cli.read_pipeline(cfg, args.degrade)
    model = cli.build_model(cfg)
    layer = cli.require_mspe(model, args.config)
    if args.checkpoint:
        load_weights(model, args.checkpoint)
    preprocessor = model.data_preprocessor
    if args.adapter:
        load_adapter_for(cfg, layer, args.adapter)
    sizes = kernels_of(layer, args.resolutions, layer_key(cfg))
    rebuilt = not args.adapter and not {*sizes.values()} <= {*layer.kernel_sizes}
    if rebuilt:
        layer = layer.sharing_base(kernel_sizes=sorted({*sizes.values(), layer.patch_size}))
    if args.low_images:
        if len(args.low_images) != len(sizes):
            raise InputError(f'{len(args.low_images)} folders of --low-images for {len(sizes)} resolutions: give one for '
                             'each')
        changes = dict(zip(sizes.values(), args.low_images))
    else:
        changes = {k: ChangeResolution((k / layer.patch_size, ) * 2, layer.downsampling.interpolation,
                                       layer.downsampling.antialias, degrade=degrade)
                   for k in sizes.values()}
    pairs = ImagePairs(args.images, names, image_steps(cfg.test_dataloader.dataset.pipeline), layer.patch_size, changes)
    for steps in (pairs.load, pairs.to_base):
        check_pipeline(steps, model)
    del model    # the encoder is not needed

    held_out = set(evenly(min(max(1, round(len(names) * args.holdout)), len(names) - 1), len(names)))
    try:
        calibrator = Calibrator(layer, [*sizes.values()])
        add_images(calibrator, pairs, preprocessor, held_out)
        found = calibrator.finish(args.ridge)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f'{args.images}: {error}') from error
    if get_dist_info()[0] > 0:    # all processes have the same kernels
        return
    save_adapter(layer, args.out)

    table = PrettyTable(['resolution', 'kernel', 'ridge', 'token error before', 'after'])
    table.align = 'r'
    for (height, width), k in sizes.items():
        kernel = found[k]
        errors = [f'{error:.2%}' for error in (kernel.error_before, kernel.error_after)]
        table.add_row([f'{height} x {width}', k, f'{kernel.ridge:g}', *errors])
    print(table)
    print('token error: the share of the variance of the base tokens that the kernel does not explain, on the '
          f'{len(held_out)} of {len(names)} images that were held out')
    print(f'written to {args.out}')
    if rebuilt:
        print(f'its kernels are not those of {args.config}: use it with --cfg-options '
              f'{layer_key(cfg)}.kernel_sizes="{[*layer.kernel_sizes]}"')


if __name__ == '__main__':
    cli.run(main)
