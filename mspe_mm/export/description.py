"""What a deployer needs beside the graphs, as ``export.json``: how an image comes to its size, and what outputs mean.

Normalisation and channel order are in the graphs, where they are checked and cannot be forgotten. What is left to the caller
is to decode an image and to bring it to the size of a graph: steps on an 8-bit RGB image, each a dict of one of

``resize``    to (height, width)
``shorter``   the shorter side to so many pixels, at the same aspect ratio
``within``    a larger image to fit into (height, width), at the same aspect ratio
``crop``      the centre of (height, width)
``pad``       at the bottom and on the right to (height, width), with ``value`` (RGB)

and, where it resizes, PIL's ``filter``. An image that has the size already takes none of them.
"""
from __future__ import annotations

from mmengine.registry import TRANSFORMS
from torch import nn

from ..layers.downsampling import Downsampling
from ..layers.patch_embed import MultiScalePatchEmbed
from .graphs import loads_rgb, task_of

FILTERS = dict(bilinear='bilinear', bicubic='bicubic', area='box', nearest='nearest')
"""PIL's names of the interpolations."""


def steps_for(model: nn.Module, size: tuple[int, int]) -> list[dict]:
    """The steps from any image to ``size`` (height, width)."""
    layer: MultiScalePatchEmbed = model.mspe_layer
    downsampling: Downsampling = layer.downsampling
    resized, filter_ = list(size), FILTERS[downsampling.interpolation]
    if task_of(model) == 'detection':
        return [dict(within=resized, filter=filter_), dict(pad=resized, value=_canvas(model))]
    before = _timm_steps(model) if task_of(model) == 'classification' else []
    return [*before, dict(resize=resized, filter=filter_)]


def description(model: nn.Module) -> dict:
    """What is the same at all resolutions."""
    layer: MultiScalePatchEmbed = model.mspe_layer
    meta = getattr(model, 'dataset_meta', None) or {}
    found = dict(task=task_of(model), input='(batch, 3, height, width) RGB, 8 bits',
                 base_resolution=list(layer.base_resolution), token_grid=list(layer.grid_size),
                 classes=meta.get('classes'), palette=meta.get('palette'))
    if task_of(model) == 'segmentation':
        head = model.decode_head
        # Logits of a single channel are compared with a threshold after a sigmoid.
        found.update(align_corners=head.align_corners, threshold=head.threshold if head.out_channels == 1 else None)
    return found


def _canvas(model: nn.Module) -> list[float]:
    """RGB of what images are padded with, before normalisation."""
    preprocessor = model.data_preprocessor
    value = getattr(preprocessor, 'canvas_value', None)
    if value is None:    # the host pads after normalisation, with zeros
        mean = getattr(preprocessor, 'mean', None)
        value = [0.] if mean is None else mean.flatten().tolist()
        return value * (3 // len(value))
    value = [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)]
    value = value * (3 // len(value))
    return value if loads_rgb(model) else value[::-1]


def _timm_steps(model: nn.Module) -> list[dict]:
    """What the test pipeline's timm transform does to an image before it is bytes of the base resolution."""
    steps = []
    cfg = getattr(model, 'cfg', None)
    for step in cfg.test_dataloader.dataset.pipeline if cfg is not None else ():
        if step['type'] != 'TimmTransform':
            continue
        transform = TRANSFORMS.build(dict(step))
        transform.match_model(model)
        for part in transform.transform.transforms:
            size = getattr(part, 'size', None)
            size = list(size) if isinstance(size, (list, tuple)) else size
            if type(part).__name__ == 'CenterCrop':
                steps.append(dict(crop=size))
            elif type(part).__name__ == 'Resize':
                steps.append({'resize' if isinstance(size, list) else 'shorter': size, 'filter': part.interpolation.value})
    return steps
