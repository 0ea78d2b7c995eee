"""Predict on images, folders, glob patterns and videos, each image at its own resolution.

    python tools/predict.py configs/setr_mspe_ade20k.py CHECKPOINT --adapter adapter.safetensors photos/ clip.mp4 \
        --out-dir predictions

CONFIG and CHECKPOINT may be those of a stock model of mmseg or mmdet: it predicts by the untrained kernels, the prior. Small
images are not enlarged, and images of different sizes share a batch. A run that was stopped continues. predictions.json says
what was found on every image.
"""
import argparse
import hashlib
import json
import sys
import time
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mspe_mm.errors import InputError
from mspe_mm.inference.outputs import PredictionFolder
from mspe_mm.inference.predictor import Predictor, load
from mspe_mm.inference.sources import FrameReader, find_sources, write_video
from mspe_mm.runtime import cli
from mspe_mm.runtime.sizes import add_grid_argument, forced_grid, full_sizes, parse_resolution

SECONDS_BETWEEN_INDICES = 10    # of work that a killed run does again


def parse_args():
    parser = argparse.ArgumentParser(description='Predict on images of any sizes', parents=[cli.TRUST])
    parser.add_argument('config', help='config of this package, or of a stock model of mmseg or mmdet')
    parser.add_argument('checkpoint', help="its weights, path or URL; '-' for a timm model that loads its own")
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='image, folder, glob pattern or video')
    parser.add_argument('--out-dir', required=True, help='folder for predictions.json, overlays/, labels/ and videos/')
    parser.add_argument('--adapter', metavar='FILE', help='tuned patch embedding (.safetensors)')
    parser.add_argument('--resolution', type=parse_resolution, metavar='R',
                        help='shrink images first, so that the base resolution becomes R: HEIGHTxWIDTH, or a height alone')
    add_grid_argument(parser)
    parser.add_argument('--batch-size', type=cli.positive, default=8, metavar='N',
                        help='images in one pass, of any sizes; default %(default)s')
    parser.add_argument('--min-score', type=float, default=0.3, metavar='S',
                        help='least score of a detection in an overlay; default %(default)s. The files have all')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default the GPU, if there is one')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='settings that override the config')
    cli.add_speed_arguments(parser)
    return parser.parse_intermixed_args()    # inputs may follow options


def identity(model):
    """A digest of a model's weights and config."""
    digest = hashlib.sha256(json.dumps(model.cfg.to_dict(), default=str, sort_keys=True).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def batches(items, size):
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def rgb(read):
    """The image of Predictor.read as an (H, W, 3) array of bytes in RGB order."""
    image = read['img']
    return image[..., ::-1] if isinstance(image, np.ndarray) else np.asarray(image)


def predict(predictor, sources, folder, batch_size):
    """Predict on images and write what is found; returns why images were skipped."""
    frames, failures, written = FrameReader(), [], time.monotonic()
    bar = tqdm(total=len(sources), desc='predict', unit='image', disable=None)    # a bar on terminals, none in logs
    for batch in batches(sources, batch_size):
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
            folder.add(source.key, source.name, rgb(results), sample, item['inputs'].shape[-2:])
        bar.update(len(batch))
        if time.monotonic() - written > SECONDS_BETWEEN_INDICES:
            folder.write_index()
            written = time.monotonic()
    bar.close()
    return failures


def write_videos(sources, folder):
    """Write the overlays of a video's frames as a video."""
    for path, group in groupby((source for source in sources if source.frame is not None), key=lambda source: source.path):
        frames = [source for source in group if folder.has(source.key)]
        if frames:
            name = Path(frames[0].name).parent.with_suffix('.mp4')
            write_video(folder.folder / 'videos' / name, path, [folder.overlay(source.key) for source in frames])


def main():
    args = parse_args()
    out_dir = Path(args.out_dir).resolve()
    for text in args.inputs:
        if Path(text).is_dir() and out_dir.is_relative_to(Path(text).resolve()):
            raise InputError(f'--out-dir {args.out_dir} is in the input folder {text}, and the next run would read what '
                             'this one writes: write to another folder')
    sources = find_sources(args.inputs)
    checkpoint = None if args.checkpoint == '-' else args.checkpoint
    predictor = load(cli.read_config(args.config, args.cfg_options), checkpoint, args.adapter, args.device)
    if args.resolution:
        base = predictor.model.mspe_layer.base_resolution
        predictor = Predictor(predictor.model, *full_sizes([args.resolution], base))
    predictor.token_grid = forced_grid(predictor.model.mspe_layer, args)
    header = dict(config=args.config, checkpoint=checkpoint, adapter=args.adapter, model=identity(predictor.model),
                  resolution=args.resolution, token_grid=args.token_grid, **cli.speed_up(predictor.model, args))
    folder = PredictionFolder(args.out_dir, header, predictor.classes, predictor.palette, args.min_score)
    todo = [source for source in sources if not folder.has(source.key)]
    if len(todo) < len(sources):
        print(f'{len(sources) - len(todo)} of {len(sources)} images are in {args.out_dir} already')
    start = time.perf_counter()
    try:
        failures = predict(predictor, todo, folder, args.batch_size)
    finally:
        folder.write_index()    # also of a run that is stopped
    seconds, done = time.perf_counter() - start, len(todo) - len(failures)
    write_videos(sources, folder)
    print(f'{done} images in {seconds:.1f} s, {done / seconds:.1f} images/s; written to {args.out_dir}')
    if failures:
        raise InputError(f'{len(failures)} of {len(todo)} images could not be read, the first: {failures[0]}')


if __name__ == '__main__':
    cli.run(main)
