"""Run a model that tools/export.py wrote as ONNX. Needs numpy, Pillow and onnxruntime alone.

    python run_onnx.py EXPORT_DIR IMAGE [--resolution 64 or 48x64] [--out FILE]

Segmentation: the label map at the image's size as a PNG. Classification: the five likeliest classes. Detection: the features
of the backbone and neck as an .npz file. By default the smallest exported resolution that holds the image is taken.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def choose(resolutions, image, wanted=None):
    """The entry of export.json for an image: the one asked for, or the smallest that holds it, or the largest."""
    entries = sorted(resolutions, key=lambda entry: entry['size'])
    if wanted:
        height, _, width = wanted.partition('x')
        size = [int(height), int(width or height)]
        found = [entry for entry in entries if entry['size'] == size]
        if not found:
            raise SystemExit(f'{wanted} is not exported: choose one of {[entry["size"] for entry in entries]}')
        return found[0]
    large = [entry for entry in entries if entry['size'][0] >= image.height and entry['size'][1] >= image.width]
    return large[0] if large else entries[-1]


def prepare(image, entry):
    """An RGB image of any size as the array (1, 3, height, width) of bytes that a graph takes."""
    height, width = entry['size']
    for step in entry['steps'] if (image.height, image.width) != (height, width) else []:
        image = apply(image, step)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])


def apply(image, step):
    """One of the steps of export.json."""
    width, height = image.size
    if 'crop' in step:
        rows, columns = step['crop']
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        return image.crop((left, top, left + columns, top + rows))
    if 'pad' in step:
        rows, columns = step['pad']
        canvas = Image.new('RGB', (columns, rows), tuple(round(value) for value in step['value']))
        canvas.paste(image)
        return canvas
    if 'resize' in step:
        rows, columns = step['resize']
    elif 'shorter' in step:
        rows, columns = (int(step['shorter'] * side / min(height, width)) for side in (height, width))
    else:
        scale = min(1, step['within'][0] / height, step['within'][1] / width)
        rows, columns = int(height * scale + 0.5), int(width * scale + 0.5)
    filters = dict(nearest=Image.NEAREST, box=Image.BOX, bilinear=Image.BILINEAR, bicubic=Image.BICUBIC,
                   lanczos=Image.LANCZOS, hamming=Image.HAMMING)
    return image if (rows, columns) == (height, width) else image.resize((columns, rows), filters[step['filter']])


def bilinear(array, size, align_corners):
    """(C, h, w) to (C, *size), as PyTorch's F.interpolate."""
    for axis, length in zip((1, 2), size):
        before = array.shape[axis]
        if align_corners:
            places = np.linspace(0, before - 1, length) if length > 1 else np.zeros(1)
        else:
            places = np.clip((np.arange(length) + 0.5) * before / length - 0.5, 0, before - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, before - 1)
        shape = [-1 if i == axis else 1 for i in range(3)]
        share = (places - low).astype(np.float32).reshape(shape)
        array = np.take(array, low, axis) * (1 - share) + np.take(array, high, axis) * share
    return array


def label_map(logits, size, original, about):
    """(h, w) of classes at the image's original size, from logits (C, rows, columns) of a graph for ``size``."""
    logits = bilinear(bilinear(logits, size, about['align_corners']), original, about['align_corners'])
    if about['threshold'] is not None:
        return (1 / (1 + np.exp(-logits[0])) > about['threshold']).astype(np.uint8)
    return logits.argmax(0).astype(np.uint8 if len(logits) <= 256 else np.uint16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder')
    parser.add_argument('image')
    parser.add_argument('--resolution')
    parser.add_argument('--out')
    args = parser.parse_args()
    folder = Path(args.folder)
    about = json.loads((folder / 'export.json').read_text())
    image = Image.open(args.image).convert('RGB')
    entry = choose(about['resolutions'], image, args.resolution)
    values = [prepare(image, entry).repeat(about['batch_size'], 0)]
    for name in entry['files']:
        session = onnxruntime.InferenceSession(folder / name, providers=['CPUExecutionProvider'])
        values = session.run(None, {session.get_inputs()[0].name: values[0]})
        names = [output.name for output in session.get_outputs()]

    if about['task'] == 'segmentation':
        labels = label_map(values[0][0], entry['size'], (image.height, image.width), about)
        Image.fromarray(labels).save(args.out or 'labels.png')
        for index, count in zip(*np.unique(labels, return_counts=True)):
            print(f'{count / labels.size:7.2%}  {about["classes"][index] if about["classes"] else index}')
    elif about['task'] == 'classification':
        scores = np.exp(values[0][0] - values[0][0].max())
        scores /= scores.sum()
        for index in np.argsort(-scores, kind='stable')[:5]:
            print(f'{scores[index]:.5f}  {about["classes"][index] if about["classes"] else index}')
    else:
        np.savez(args.out or 'features.npz', **dict(zip(names, values)))
        for name, value in zip(names, values):
            print(name, value.shape)


if __name__ == '__main__':
    main()
