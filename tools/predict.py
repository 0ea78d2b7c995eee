"""Predict on images, folders, glob patterns and videos, each image at its own resolution.

    python tools/predict.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors photos/ clip.mp4 \
        --out-dir predictions

Small images are not enlarged, and images of different sizes share a batch. CHECKPOINT is '-' for a model with weights of its
own.
"""
import sys
import time
from itertools import islice

import numpy as np
from tqdm import tqdm

from mspe_mm.errors import InputError
from mspe_mm.inference.outputs import PredictionFolder
from mspe_mm.inference.predictor import Predictor, load
from mspe_mm.inference.sources import FrameReader, VideoWriters, find_sources
from mspe_mm.runtime import cli

SECONDS_BETWEEN_INDICES = 10    # of work that a killed run does again


def parse_args():
    parser = cli.parser('Predict on images', checkpoint=True)
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder, glob pattern or video')
    parser.add_argument('--out-dir', required=True, help='folder for predictions.json, labels/, overlays/ and videos/')
    parser.add_argument('--resolution', type=cli.resolution, metavar='R',
                        help='shrink images first, so that the base resolution becomes R: HEIGHTxWIDTH, or a height alone')
    cli.add_grid_argument(parser)
    parser.add_argument('--batch-size', type=cli.positive, default=8, metavar='N',
                        help='images in one pass, of any sizes; default %(default)s')
    parser.add_argument('--min-score', type=float, default=0.3, metavar='S',
                        help='least score of a detection in an overlay; default %(default)s. The files have all')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default the GPU, if there is one')
    cli.add_speed_arguments(parser)
    return parser.parse_args()


def batches(items, size):
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def rgb(read):
    """The image of Predictor.read as an (H, W, 3) array of bytes in RGB order."""
    image = read['img']
    return image[..., ::-1] if isinstance(image, np.ndarray) else np.asarray(image)


def main():
    args = parse_args()
    sources = find_sources(args.inputs)
    checkpoint = None if args.checkpoint == '-' else args.checkpoint
    cfg = cli.load_config(args)
    predictor = load(cfg, checkpoint, args.adapter, args.device)
    layer = predictor.model.mspe_layer
    if args.resolution:
        predictor = Predictor(predictor.model, *cli.full_sizes([args.resolution], layer.base_resolution))
    predictor.token_grid = cli.forced_grid(layer, args)
    speed = cli.speed_up(predictor.model, args)
    header = dict(config=args.config, checkpoint=checkpoint, adapter=args.adapter, resolution=args.resolution,
                  token_grid=args.token_grid, **speed)
    folder = PredictionFolder(args.out_dir, header, predictor.classes, predictor.palette, args.min_score)
    todo = [source for source in sources if not folder.has(source.key)]
    if len(todo) < len(sources):
        print(f'{len(sources) - len(todo)} of {len(sources)} images are in {args.out_dir} already')

    frames, videos, failures, written = FrameReader(), VideoWriters(args.out_dir), [], time.monotonic()
    bar = tqdm(total=len(todo), desc='predict', unit='image', disable=None)
    start = time.perf_counter()
    for batch in batches(todo, args.batch_size):
        read = {}
        for source in batch:
            try:
                image = source.path if source.frame is None else frames.read(source.path, source.frame)
                read[source] = predictor.read(image)
            except InputError as error:
                failures.append(str(error))
                folder.add_failure(source.key, str(error))
                tqdm.write(f'skipped: {error}', file=sys.stderr)
        prepared = [predictor.prepare(results) for results in read.values()]
        for (source, results), item, sample in zip(read.items(), prepared, predictor.predict(prepared)):
            overlay = folder.add(source.key, source.name, rgb(results), sample, item['inputs'].shape[-2:])
            if source.frame is not None:
                videos.add(source, overlay)
        bar.update(len(batch))
        if time.monotonic() - written > SECONDS_BETWEEN_INDICES:
            folder.write_index()
            written = time.monotonic()
    bar.close()
    videos.close()
    folder.write_index()
    done = len(todo) - len(failures)
    print(f'{done} images in {time.perf_counter() - start:.1f} s; written to {args.out_dir}: predictions.json')
    if failures:
        raise InputError(f'{len(failures)} of {len(todo)} images could not be read, the first: {failures[0]}')


if __name__ == '__main__':
    cli.run(main)
