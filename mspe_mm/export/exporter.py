"""Exporting a model at several resolutions, and comparing the files with the model before they are handed out."""
from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files import replacing
from ..layers.patch_embed import MultiScalePatchEmbed
from ..version import __version__
from .description import description, steps_for
from .formats import FORMATS, Run
from .graphs import Embedding, Encoder, output_names, outputs_of, prepared, task_of

TOLERANCE = 1e-4
"""Largest difference between the files and the model, in units of the largest output where that is above 1."""

DYNAMIC = ('a dynamic height or width cannot be exported, because the size of an image decides its patch kernel, stride and '
           'padding, which are constants of a graph: give the resolutions that you need, each adds one small graph')


def export(model: nn.Module, sizes: Sequence[tuple[int, int] | None], out_dir: str | Path, format: str = 'onnx',
           merge: bool = False, batch_size: int = 1) -> dict:
    """Write a model as static graphs that run without this package.

    ``encoder`` maps tokens to logits, or to the features of a detector's neck. ``embed_R`` maps 8-bit RGB images of a
    resolution R to tokens. ``export.json`` describes them, see :mod:`mspe_mm.export.description`. It is written last: a
    folder that has it is complete, and its files have been compared with the model.

    Args:
        model: A model of this package on the CPU in eval mode. Its config as ``cfg`` gives a classifier's preprocessing.
        sizes: (height, width) of the images in pixels.
        out_dir: Where to write.
        format: ``'onnx'`` or ``'torch'``, a program of ``torch.export``.
        merge: Write ``model_R`` for each resolution instead, and the weights that they share once.
        batch_size: Number of images in a call.

    Returns:
        The content of ``export.json``.

    Raises:
        InputError: If the model, a size or a setting cannot be exported, a package is missing, ``out_dir`` has an export, or
            the files compute something else than the model.
    """
    if format not in FORMATS:
        raise InputError(f'unknown format {format!r}: choose one of {", ".join(FORMATS)}')
    backend, out_dir = FORMATS[format], Path(out_dir)
    if merge and backend.weights is None:
        raise InputError(f'--merge is for --format onnx: files of --format {format} cannot share their weights')
    if (out_dir / 'export.json').exists():
        raise InputError(f'{out_dir} has an export already: remove it, or write to another folder')
    backend.check_installed()
    sizes = check_sizes(model, sizes)
    check_model(model)
    with _folder_in(out_dir) as folder:
        files = write_graphs(model, sizes, folder, format, merge, batch_size)
        differences = [check_output(model, load_graphs(folder, names, format), size, batch_size)
                       for size, names in zip(sizes, files)]
        content = dict(
            format=format, **description(model), batch_size=batch_size,
            resolutions=[dict(size=list(size), files=names, patch=list(model.mspe_layer.kernel_size(size)),
                              steps=steps_for(model, size), **found)
                         for size, names, found in zip(sizes, files, differences)],
            versions=dict(mspe_mm=__version__, torch=torch.__version__))
        for path in sorted(folder.iterdir()):
            with replacing(out_dir / path.name) as temporary:
                os.replace(path, temporary)
    with replacing(out_dir / 'export.json') as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + '\n')
    return content


def check_sizes(model: nn.Module, sizes: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """The sizes without repeats.

    Raises:
        InputError: For a dynamic size, or one whose tokens are not on the base grid.
    """
    layer: MultiScalePatchEmbed = model.mspe_layer
    found: dict[tuple[int, int], None] = {}
    for size in sizes:
        if size is None or not all(isinstance(length, int) and length > 0 for length in size):
            raise InputError(DYNAMIC)
        height, width = size
        grid = layer.token_grid(size)
        if grid != layer.grid_size:
            rows, columns = layer.grid_size
            near = [max(1, round(length / cells)) * cells for length, cells in zip(size, layer.grid_size)]
            raise InputError(f'{height} x {width} px have {grid[0]} x {grid[1]} tokens, and the encoder is exported for '
                             f'{rows} x {columns}: give a multiple of {rows} x {columns} px such as {near[0]}x{near[1]}')
        seen = prepared(model, torch.zeros(1, 3, height, width, dtype=torch.uint8)).shape[-2:]
        if tuple(seen) != (height, width):
            raise InputError(f'the data preprocessor pads images of {height} x {width} px to {seen[0]} x {seen[1]} px: give '
                             f'{seen[0]}x{seen[1]}')
        found[height, width] = None
    return list(found)


def check_model(model: nn.Module) -> None:
    """Raise an InputError if a model has no outputs that are the same function of every image."""
    if task_of(model) != 'segmentation':
        return
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    if not isinstance(model.decode_head, BaseDecodeHead):
        raise InputError(f'{type(model.decode_head).__name__} has no logits for each pixel, which are what is exported')
    if (model.test_cfg or {}).get('mode', 'whole') != 'whole':
        raise InputError(f'model.test_cfg.mode is {model.test_cfg.mode!r}, and an exported graph sees a whole image: export '
                         "with --cfg-options model.test_cfg.mode=whole, and cut windows before it if you need them")


@torch.no_grad()    # else attention is exported by a kernel that also has gradients, whose strides ONNX does not keep
def write_graphs(model: nn.Module, sizes: Sequence[tuple[int, int]], folder: Path, format: str = 'onnx',
                 merge: bool = False, batch_size: int = 1) -> list[list[str]]:
    """Write the graphs of a model; returns the names of the files that make up each size, in the order in which they run."""
    backend = FORMATS[format]
    embedded: list[Path] = []
    for size in sizes:
        embedding, images = Embedding(model, size), torch.zeros(batch_size, 3, *size, dtype=torch.uint8)
        embedded.append(folder / f'embed_{size_name(size)}{backend.suffix}')
        backend.save(_program(embedding, images), embedded[-1], ['images', 'tokens'])
    tokens = embedding(images)
    encoder, last = Encoder(model), folder / f'encoder{backend.suffix}'
    names = output_names(model, len(encoder(tokens)))
    backend.save(_program(encoder, tokens), last, ['tokens', *names])
    if not merge:
        return [[path.name, last.name] for path in embedded]
    targets = [folder / f'model_{size_name(size)}{backend.suffix}' for size in sizes]
    backend.merge(embedded, last, targets)
    for path in (*embedded, last):
        path.unlink()
    return [[target.name] for target in targets]


def load_graphs(folder: Path, names: Sequence[str], format: str = 'onnx', **options: int) -> Run:
    """The graphs of one size, as one function from images (batch, 3, h, w), 8 bits, to the outputs.

    ``options`` are those of the format's ``load``.
    """
    runs = [FORMATS[format].load(folder / name, **options) for name in names]

    def run(images: np.ndarray) -> list[np.ndarray]:
        values = [images]
        for graph in runs:
            values = graph(*values)
        return values
    return run


def check_output(model: nn.Module, run: Run, size: tuple[int, int], batch_size: int = 1) -> dict[str, float]:
    """Compare a graph with its model on random images.

    Returns:
        ``difference``, the largest of an output, and ``largest``, the largest output.

    Raises:
        InputError: If the difference is above :data:`TOLERANCE`.
    """
    images = torch.randint(256, (batch_size, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in outputs_of(model, prepared(model, images))]
    found = run(images.numpy())
    same = [a.shape for a in found] == [b.shape for b in expected]
    difference = max(float(np.abs(a - b).max()) for a, b in zip(found, expected)) if same else float('inf')
    largest = max(float(np.abs(b).max()) for b in expected)
    if not difference <= TOLERANCE * max(1., largest):    # not a number is refused as well
        raise InputError(f'the exported graph of {size[0]} x {size[1]} px differs from the model by {difference:.1e} at '
                         f'outputs of up to {largest:.1e}, more than {TOLERANCE:.0e}: nothing was written; an encoder can '
                         'be exported if it sees the tokens of the MSPE layer alone, and not the image')
    return dict(difference=difference, largest=largest)


def size_name(size: tuple[int, int]) -> str:
    """``'128'`` for 128 x 128 px, and ``'96x128'``."""
    return str(size[0]) if size[0] == size[1] else f'{size[0]}x{size[1]}'


def _program(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(module.eval(), (example, ), strict=False)


@contextmanager
def _folder_in(out_dir: Path) -> Iterator[Path]:
    """A hidden folder in ``out_dir`` that is removed at the end."""
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.unfinished-', dir=out_dir) as folder:
        yield Path(folder)
