"""The methods that are compared at a resolution, all from one checkpoint."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..core import MultiScalePatchEmbed
from ..core.adapter import find_patch_embed

METHODS = ('vanilla', 'img_resize', 'flexivit', 'prior', 'calibrated', 'mspe')
"""vanilla: the stock model, with its one patch size and so fewer tokens.

img_resize: the image resized to the base resolution, then the stock model.
flexivit: the pretrained kernel PI-resized to keep the token grid, untrained.
prior: the same by the resize that is best for patches as smooth as photographs (:data:`PRIOR_CORRELATION`).
calibrated: kernels solved for in closed form from unlabelled images, of an adapter of tools/calibrate.py.
mspe: the tuned layer.
"""


PRIOR_CORRELATION = 0.99


def restores_image(method: str) -> bool:
    """Whether a method brings the image back to the base resolution before the model sees it."""
    return method == 'img_resize'


def method_layer(layer: MultiScalePatchEmbed, method: str,
                 calibrated: MultiScalePatchEmbed | None = None) -> MultiScalePatchEmbed:
    """The patch embedding by which ``method`` embeds images; the baselines share the base kernel of ``layer``."""
    if method in ('mspe', 'calibrated'):
        return layer if method == 'mspe' else calibrated
    if method == 'prior':
        return layer.single_kernel(layer.kernel_policy, layer.correlation or PRIOR_CORRELATION)
    return layer.single_kernel(layer.kernel_policy if method == 'flexivit' else 'constant')


@contextmanager
def using_method(model: nn.Module, method: str,
                 calibrated: MultiScalePatchEmbed | None = None) -> Iterator[MultiScalePatchEmbed]:
    """Within the context, ``model`` embeds images as ``method`` does; yields the layer that does it.

    ``calibrated`` is the layer of the method of that name.
    """
    layer = find_patch_embed(model)
    (name, ) = [name for name, module in model.named_modules() if module is layer]
    parent = model.get_submodule(name.rpartition('.')[0])
    attribute = name.rpartition('.')[2]
    replacement = method_layer(layer, method, calibrated)
    setattr(parent, attribute, replacement)
    try:
        yield replacement
    finally:
        setattr(parent, attribute, layer)
