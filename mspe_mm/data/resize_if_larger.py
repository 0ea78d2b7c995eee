"""Resizing to the base resolution that leaves small images at their own."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.registry import TRANSFORMS

from ..errors import InputError


@TRANSFORMS.register_module()
class ResizeIfLarger:
    """The host's ``Resize``, except that it never enlarges an image.

    Enlarging a small image to the base resolution would bypass the MSPE layer. A smaller image keeps its size and reaches
    the layer as it is. Where the aspect ratio is not kept, each side is at most that of ``scale``.

    Args:
        scale: (width, height) in pixels, or one number for both, as in the host's ``Resize``.
        keep_ratio: Whether the aspect ratio is kept.
        **settings: Further arguments of the host's ``Resize``.

    Raises:
        InputError: For a scale that is no size.
    """

    def __init__(self, scale: int | tuple[int, int], keep_ratio: bool = False, **settings: Any) -> None:
        self.scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
        if len(self.scale) != 2 or not all(isinstance(side, int) and side > 0 for side in self.scale):
            raise InputError(f'ResizeIfLarger.scale must be (width, height) in pixels, got {scale}')
        self.resize = TRANSFORMS.build(dict(type='Resize', scale=self.scale, keep_ratio=keep_ratio, **settings))

    def __call__(self, results: dict) -> dict:
        """Resize ``results['img']`` (H, W, C) if it is larger."""
        height, width = results['img'].shape[:2]
        resize = copy.copy(self.resize)    # its settings are of this call: threads share a pipeline
        if not resize.keep_ratio:
            resize.scale = (min(width, self.scale[0]), min(height, self.scale[1]))
        # The host takes the long side for the long one of the scale, whichever that is.
        elif max(height, width) <= max(self.scale) and min(height, width) <= min(self.scale):
            resize.scale, resize.keep_ratio = (width, height), False
        return resize(results)

    def __repr__(self) -> str:
        return f'ResizeIfLarger({self.resize})'


def enlarging_small(pipeline: Sequence[dict]) -> list[dict]:
    """A test pipeline without what leaves small images at their size: it brings every image to the base resolution."""
    def changed(step: dict) -> dict:
        if step['type'] == 'ResizeIfLarger':
            return {**step, 'type': 'Resize'}
        return {**step, 'keep_small': False} if step.get('keep_small') else step
    return [changed(step) for step in pipeline]
