"""The reference frame: the coordinates of an image at the detector's base resolution.

The token grid does not change with the input, so everything after the patch embedding is at the base resolution: features,
anchors, proposals, RoIs, and the annotations in training. Only this module handles other resolutions and grids.

The resolution is inferred from the patch size. The layer cuts a (padded) batch of H x W px into patches of k_h x k_w px, and
a patch is ``patch_size`` pixels of the reference frame. So one pixel of the batch is ``patch_size / k`` pixels of the frame
on each axis. At the base resolution k is the patch size and nothing changes.
With the ``'fixed'`` policy a 512 x 512 batch has 8 px patches for a base resolution of 1024 x 1024, scale 2; with
``'constant'`` the patch is always the base one and the frame is the batch: the stock detector.

The heads get the metadata of the image in the frame: ``img_shape``, ``pad_shape``, ``batch_input_shape`` and
``scale_factor`` (original image to frame). They divide by that factor, which maps boxes and masks to the original image.

On another token grid a patch is ``patch_size`` pixels of the frame too, so that the frame follows the grid: with half of
the rows and columns it is half as large, and so are the objects in it. Neck and heads see what they see of an image of that
size, and cost as little. In training the annotations, which are at the base resolution, are brought to the frame
(:func:`annotations_in_frame`).

Images are first put on a canvas (:func:`canvas_size`), so that they keep their aspect ratio. The canvas has a whole number
of pixels for every token, the same on both axes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import scale_boxes
from mmengine.structures import InstanceData

from ..layers.patch_embed import MultiScalePatchEmbed

FRAME_KEYS = ('img_shape', 'pad_shape', 'batch_input_shape', 'scale_factor')


def canvas_size(image_sizes: Iterable[tuple[int, int]], grid_size: tuple[int, int], at_least: int = 1,
                stock_patch: int | None = None) -> tuple[int, int]:
    """The smallest canvas with square patches and the base token grid that every image fits on.

    Args:
        image_sizes: (height, width) of the images in pixels.
        grid_size: (rows, columns) of tokens at the base resolution.
        at_least: Smallest patch size in pixels.
        stock_patch: Patch size in pixels of the stock detector, whose tokens follow the image: for the smallest canvas of
            whole patches in the shape of the base grid.

    Returns:
        (height, width) in pixels, ``k * rows`` and ``k * columns`` with a whole k; with ``stock_patch``, of the k at which
        an image touches the edge, rounded up to whole patches.
    """
    rows, columns = grid_size
    k = max(Fraction(at_least), *(max(Fraction(h, rows), Fraction(w, columns)) for h, w in image_sizes))
    if stock_patch is None:
        return math.ceil(k) * rows, math.ceil(k) * columns
    return math.ceil(k * rows / stock_patch) * stock_patch, math.ceil(k * columns / stock_patch) * stock_patch


def frame_scale(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> tuple[float, float]:
    """Frame pixels per batch pixel, (vertical, horizontal), for a batch of (height, width) pixels."""
    vertical, horizontal = frame_ratio(patch_embed, batch_size)
    return float(vertical), float(horizontal)


def frame_ratio(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int]) -> tuple[Fraction, Fraction]:
    """:func:`frame_scale` as fractions: a patch of k px is ``patch_size`` px of the frame, once patches fit the batch."""
    fitted, kernel = patch_embed.fitted_size(batch_size), patch_embed.kernel_size(batch_size)
    vertical, horizontal = (Fraction(patch_embed.patch_size * fit, k * length)
                            for fit, k, length in zip(fitted, kernel, batch_size))
    return vertical, horizontal


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
    ratios = frame_ratio(patch_embed, batch_size)
    rows, columns = patch_embed.token_grid(batch_size)
    return {**_scaled_metainfo(metainfo, ratios), 'batch_input_shape': patch_embed.stock_size((rows, columns))}


def _scaled_metainfo(metainfo: dict, ratios: tuple[Fraction, Fraction]) -> dict:
    """The entries that :data:`FRAME_KEYS` names, of an image that is scaled by a (vertical, horizontal) ratio."""
    found = {key: _scaled_size(metainfo[key], ratios) for key in FRAME_KEYS if key != 'scale_factor' and key in metainfo}
    vertical, horizontal = map(float, ratios)
    x_factor, y_factor = metainfo.get('scale_factor', (1., 1.))[:2]    # a pipeline without Resize sets none
    return {**found, 'scale_factor': (x_factor * horizontal, y_factor * vertical)}


def _scaled_size(size: Sequence[int], ratios: tuple[Fraction, Fraction]) -> tuple[int, int]:
    height, width = (math.ceil(length * ratio) for length, ratio in zip(size[:2], ratios))
    return height, width


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


def annotations_in_frame(patch_embed: MultiScalePatchEmbed, batch_size: tuple[int, int],
                         data_samples: SampleList) -> SampleList:
    """Copies of annotated samples at the base resolution in the frame of a batch of (height, width) pixels.

    Boxes and masks are scaled, and so are the entries of the metadata that :data:`FRAME_KEYS` names.

    Args:
        patch_embed: The detector's layer.
        batch_size: (height, width) in pixels of the batch that shows these images.
        data_samples: Samples of images at the base resolution.

    Returns:
        The samples; the same ones where the frame is the base resolution.
    """
    vertical, horizontal = (ratio * length / base for ratio, length, base in zip(
        frame_ratio(patch_embed, batch_size), batch_size, patch_embed.base_resolution))
    if vertical == horizontal == 1:
        return data_samples
    return [_scaled_sample(sample, (vertical, horizontal)) for sample in data_samples]


def _scaled_sample(sample: DetDataSample, ratios: tuple[Fraction, Fraction]) -> DetDataSample:
    found = sample.clone()
    found.set_metainfo(_scaled_metainfo(sample.metainfo, ratios))
    for key in ('gt_instances', 'ignored_instances'):
        if key in sample:
            setattr(found, key, _scaled_instances(sample.get(key), ratios))
    return found


def _scaled_instances(instances: InstanceData, ratios: tuple[Fraction, Fraction]) -> InstanceData:
    found = instances.clone()
    if 'bboxes' in found:
        vertical, horizontal = map(float, ratios)
        found.bboxes = scale_boxes(found.bboxes.clone(), (horizontal, vertical))
    if 'masks' in found:
        found.masks = found.masks.resize(_scaled_size((found.masks.height, found.masks.width), ratios))
    return found
