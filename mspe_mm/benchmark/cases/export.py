"""Exported models run by onnxruntime against the same models run by PyTorch, from uint8 images to logits or features.

``onnxruntime`` runs the files that ``tools/export.py`` writes, one for each resolution and the encoder. ``PyTorch`` runs the
model of this package. Both on the CPU, in float32, with the same number of threads.
"""
from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...export.exporter import load_graphs, write_graphs
from ...export.formats import Onnx
from ...export.graphs import outputs_of, prepared
from ..arguments import check_network, check_resolutions
from ..models import NAMES, PATCH, compiled, mask_rcnn, setr
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step

NETWORKS = {'setr': 'SETR', 'mask-rcnn': 'Mask R-CNN, features'}


def comparisons(settings: Settings, models: Sequence[str], networks: Sequence[str], base: int,
                resolutions: Sequence[int]) -> list[Comparison]:
    """What is compared.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        networks: Any of :data:`NETWORKS`.
        base: Base resolution in pixels.
        resolutions: Resolutions of the images in pixels.

    Raises:
        InputError: If a resolution is no multiple of the token grid or too small for the network, a package is missing, or
            the settings are not those of a CPU in float32.
    """
    check_resolutions(base, resolutions)
    Onnx.check_installed()
    if torch.device(settings.device).type != 'cpu' or settings.dtype != torch.float32:
        raise InputError('exported files are measured on the CPU in float32: give --device cpu --dtype float32')
    found = []
    for network in networks:
        check_network(network, [base, *resolutions])
        for model in models:
            for resolution in resolutions:
                given = dict(network=network, size=model, base=base, resolution=resolution, settings=settings)
                exported, eager = (
                    Candidate(name, partial(build, **given), tokens=(base // PATCH)**2, images=settings.batch_size,
                              same_output=True, ours=True)
                    for name, build in (('onnxruntime', by_onnxruntime), ('PyTorch', by_pytorch)))
                labels = dict(model=f'{NETWORKS[network]}, {NAMES[model]}', image=f'{resolution} px')
                found.append(Comparison(labels, exported, (eager, ), memory=False, flops=False))
    return found


def by_onnxruntime(network: str, size: str, base: int, resolution: int, settings: Settings) -> Step:
    """The exported files."""
    model = _model(network, size, base)
    with tempfile.TemporaryDirectory() as folder:
        (files, ) = write_graphs(model, [(resolution, resolution)], Path(folder), batch_size=settings.batch_size)
        run = load_graphs(Path(folder), files, threads=settings.threads)
    images = _images(resolution, settings).numpy()
    return lambda _: [torch.from_numpy(value) for value in run(images)]


def by_pytorch(network: str, size: str, base: int, resolution: int, settings: Settings) -> Step:
    """The model."""
    model, images = _model(network, size, base), _images(resolution, settings)
    compiled(model.backbone, settings.compile)

    def step(_: int) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return outputs_of(model, prepared(model, images))
    return step


def _model(network: str, size: str, base: int) -> nn.Module:
    return (setr if network == 'setr' else mask_rcnn)(size, base, kernel_policy='fixed').eval()


def _images(resolution: int, settings: Settings) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (settings.batch_size, 3, resolution, resolution), generator=generator, dtype=torch.uint8)
