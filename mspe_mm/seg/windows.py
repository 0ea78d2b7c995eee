"""The size of sliding windows on images of any size."""
from __future__ import annotations

from mmengine.config import ConfigDict


def window_scale(test_cfg: ConfigDict, image_size: tuple[int, int]) -> float:
    """The size of an image as a share of the size that sliding windows are for, at most 1.

    Args:
        test_cfg: A segmentor's. ``scale`` is that size, (width, height) as in ``Resize`` with ``keep_ratio``: the long side
            is at most the larger of the two, the short side the smaller. Without it, a window has to fit into the image.
            None gives 1.
        image_size: (height, width) in pixels.
    """
    if 'scale' not in test_cfg:
        return min(1., *(length / window for length, window in zip(image_size, test_cfg['crop_size'])))
    scale = test_cfg['scale']
    if scale is None:
        return 1.
    return min(1., max(max(image_size) / max(scale), min(image_size) / min(scale)))


def scaled_windows(test_cfg: ConfigDict, scale: float | tuple[float, float]) -> ConfigDict:
    """A ``test_cfg`` whose windows and strides are ``scale`` (vertical, horizontal) times as large, on every image."""
    factors = (scale, scale) if isinstance(scale, float) else scale
    sizes = {key: tuple(max(1, round(length * factor)) for length, factor in zip(test_cfg[key], factors))
             for key in ('crop_size', 'stride')}
    return ConfigDict(test_cfg, scale=None, **sizes)
