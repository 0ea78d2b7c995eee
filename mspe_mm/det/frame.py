"""The reference frame: the coordinates of an image at the detector's base resolution.

The token grid does not change with the input, so everything after the patch embedding is at the base resolution: features,
anchors, proposals, RoIs, and the annotations in training. Only this module handles other resolutions.

The resolution is inferred from the patch size. The layer cuts a (padded) batch of H x W px into patches of k_h x k_w px, and
a patch is ``patch_size`` pixels of the reference frame. So one pixel of the batch is ``patch_size / k`` pixels of the frame
on each axis. At the base resolution k is the patch size and nothing changes.
With the ``'fixed'`` policy a 512 x 512 batch has 8 px patches for a base resolution of 1024 x 1024, scale 2; with
``'constant'`` the patch is always the base one and the frame is the batch: the stock detector.

The heads get the metadata of the image in the frame: ``img_shape``, ``pad_shape``, ``batch_input_shape`` and
``scale_factor`` (original image to frame). They divide by that factor, which maps boxes and masks to the original image.

On another token grid a patch is more or less of the frame: with half of the rows and columns, ``2 * patch_size`` pixels. The
frame stays, and with it the sizes of objects that heads were trained on: the encoder's features are resized to those of the
base grid (:func:`features_in_frame`), so that neck and heads see what they always see.

Images are first put on a canvas (:func:`canvas_size`), so that they keep their aspect ratio. The canvas has a whole number
of pixels for every token, the same on both axes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import torch.nn.functional as F
from mmdet.structures import DetDataSample
from torch import Tensor

from ..layers.patch_embed import MultiScalePatchEmbed

FRAME_KEYS = ('img_shape', 'pad_shape', 'batch_input_shape', 'scale_factor')


def canvas_size(image_sizes: Iterable[tuple[int, int]], grid_size: tuple[int, int], at_least: int = 1) -> tuple[int, int]:
    """The smallest canvas with square patches and the base token grid that every image fits on.

    Args:
        image_sizes: (height, width) of the images in pixels.
        grid_size: (rows, columns) of tokens at the base resolution.
        at_least: Smallest patch size in pixels.

    Returns:
        (height, width) in pixels, ``k * rows`` and ``k * columns``.
    """
    k = max(at_least, *(max(-(-h // grid_size[0]), -(-w // grid_size[1])) for h, w in image_sizes))
    return k * grid_size[0], k * grid_size[1]


def frame_scale(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> tuple[float, float]:
    """Frame pixels per batch pixel, (vertical, horizontal), for a batch of (height, width) pixels."""
    vertical, horizontal = frame_ratio(patch_embed, batch_size)
    return float(vertical), float(horizontal)


def frame_ratio(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> tuple[Fraction, Fraction]:
    """:func:`frame_scale` as fractions: a patch of k px is ``patch_size`` px of the frame, once patches fit the batch."""
    fitted, kernel = patch_embed.fitted_size(batch_size), patch_embed.kernel_size(batch_size)
    tokens = base_tokens(patch_embed, batch_size)
    vertical, horizontal = (Fraction(patch_embed.patch_size * fit, k * length) * share
                            for fit, k, length, share in zip(fitted, kernel, batch_size, tokens))
    return vertical, horizontal


def base_tokens(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> tuple[Fraction, Fraction]:
    """How many tokens of the base grid (rows, columns) a token of a batch of (height, width) pixels stands for."""
    if patch_embed.kernel_policy == 'constant':    # the stock detector: the frame is the batch
        return Fraction(1), Fraction(1)
    rows, columns = (Fraction(base, own) for base, own in zip(patch_embed.grid_size, patch_embed.grid_for(batch_size)))
    return rows, columns


def features_in_frame(features: Sequence[Tensor], patch_embed: MultiScalePatchEmbed,
                      batch_size: tuple[int, int]) -> Sequence[Tensor]:
    """Features of a batch of (height, width) pixels at the sizes that they have on the base grid.

    Args:
        features: Levels (B, C, rows, columns) of a backbone.
        patch_embed: The detector's layer.
        batch_size: (height, width) of the batch in pixels.

    Returns:
        The levels, resized bilinearly; unchanged on the base grid.
    """
    ratios = base_tokens(patch_embed, batch_size)
    if ratios == (1, 1):
        return features
    return tuple(F.interpolate(level, tuple(math.ceil(length * ratio) for length, ratio in zip(level.shape[-2:], ratios)),
                               mode='bilinear', antialias=min(ratios) < 1) for level in features)


def frame_metainfo(metainfo: dict, patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> dict:
    """The entries of an image's metadata that differ in the frame.

    Sizes are rounded up: a box at the border of the image must not be clipped.

    Args:
        metainfo: Metadata of an image in a batch.
        patch_embed: The detector's layer.
        batch_size: (height, width) of the batch in pixels.

    Returns:
        Its ``img_shape``, ``pad_shape``, ``batch_input_shape`` (height, width) and ``scale_factor`` (width, height).
    """
    ratios, p = frame_ratio(patch_embed, batch_size), patch_embed.patch_size
    rows, columns = patch_embed.token_grid(batch_size)
    frame = {'batch_input_shape': tuple(
        math.ceil(tokens * ratio) * p for tokens, ratio in zip((rows, columns), base_tokens(patch_embed, batch_size)))}
    for key in ('img_shape', 'pad_shape'):
        if key in metainfo:
            frame[key] = tuple(math.ceil(length * ratio) for length, ratio in zip(metainfo[key][:2], ratios))
    vertical, horizontal = frame_scale(patch_embed, batch_size)
    x_factor, y_factor = metainfo.get('scale_factor', (1., 1.))[:2]    # a pipeline without Resize sets none
    frame['scale_factor'] = (x_factor * horizontal, y_factor * vertical)
    return frame


@contextmanager
def in_frame(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int],
             data_samples: Sequence[DetDataSample] | None) -> Iterator[None]:
    """Within the context, the metadata of ``data_samples`` is that of the reference frame.

    Args:
        patch_embed: The detector's layer.
        batch_size: (height, width) of the batch in pixels.
        data_samples: Its samples; they get their own metadata back.
    """
    batch_size = int(batch_size[0]), int(batch_size[1])    # sizes are tensors while tracing, as in mmdet's get_flops.py
    if data_samples is None or frame_scale(patch_embed, batch_size) == (1., 1.):
        yield
        return
    before = [{key: sample.metainfo[key] for key in FRAME_KEYS if key in sample} for sample in data_samples]
    try:
        for sample in data_samples:
            sample.set_metainfo(frame_metainfo(sample.metainfo, patch_embed, batch_size))
        yield
    finally:
        for sample, metainfo in zip(data_samples, before):
            for key in FRAME_KEYS:
                if key in sample and key not in metainfo:
                    delattr(sample, key)
            sample.set_metainfo(metainfo)
