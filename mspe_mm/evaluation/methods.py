"""The methods that are compared at a resolution, all from one checkpoint."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed

METHODS = ('vanilla', 'img_resize', 'flexivit', 'prior', 'calibrated', 'mspe', 'finetuned')
"""vanilla: the stock model, with its one patch size and so fewer tokens.

img_resize: the image resized to the base resolution, then the stock model.
flexivit: the pretrained kernel PI-resized to keep the token grid, untrained.
prior: the same by the resize that is best for patches as smooth as photographs (:data:`PRIOR_CORRELATION`).
calibrated: kernels solved for in closed form from unlabelled images, of an adapter of tools/calibrate.py.
mspe: the tuned layer.
finetuned: another checkpoint, in which all weights were trained at several resolutions. One of the stock architecture has
    the stock patch size, and so fewer tokens at lower resolutions, as in ResFormer; one with patch kernels embeds by them.
"""

FROM_FILES = ('calibrated', 'finetuned')
"""Methods that need a file of their own."""

PRIOR_CORRELATION = 0.99


def may_fail(method: str) -> bool:
    """Whether a method has other token grids than the base, which not every model of the hosts can take."""
    return method in ('vanilla', 'finetuned')


def restores_image(method: str) -> bool:
    """Whether a method brings the image back to the base resolution before the model sees it."""
    return method == 'img_resize'


def method_layer(layer: MultiScalePatchEmbed, method: str,
                 calibrated: MultiScalePatchEmbed | None = None,
                 finetuned: dict[str, Tensor] | None = None) -> MultiScalePatchEmbed:
    """The patch embedding by which ``method`` embeds images; the baselines share the base kernel of ``layer``."""
    if method in ('mspe', 'calibrated'):
        return layer if method == 'mspe' else calibrated
    if method == 'finetuned' and any('.kernels.' in name for name in finetuned):
        return layer
    if method == 'prior':
        return layer.single_kernel(layer.kernel_policy, layer.downsampling.correlation or PRIOR_CORRELATION)
    return layer.single_kernel(layer.kernel_policy if method == 'flexivit' else 'constant')


@contextmanager
def using_method(model: nn.Module, method: str,
                 calibrated: MultiScalePatchEmbed | None = None,
                 finetuned: dict[str, Tensor] | None = None) -> Iterator[MultiScalePatchEmbed]:
    """Within the context, ``model`` embeds images as ``method`` does; yields the layer that does it.

    ``calibrated`` is the layer of the method of that name, ``finetuned`` the state dict of the other.
    """
    layer = find_patch_embed(model)
    (name, ) = [name for name, module in model.named_modules() if module is layer]
    parent = model.get_submodule(name.rpartition('.')[0])
    attribute = name.rpartition('.')[2]
    before = {key: value.clone() for key, value in model.state_dict().items()} if method == 'finetuned' else {}
    try:
        if before:
            model.load_state_dict(finetuned, strict=False)    # of a stock checkpoint: without BatchNorm's counters
        replacement = method_layer(layer, method, calibrated, finetuned)
        setattr(parent, attribute, replacement)
        yield replacement
    finally:
        setattr(parent, attribute, layer)
        if before:
            model.load_state_dict(before)


def trained_parameters(model: nn.Module, method: str) -> int:
    """How many parameters ``method``, which ``model`` is using, has found for itself: none, its kernels' or all."""
    trained = model if method == 'finetuned' else find_patch_embed(model).kernels
    return sum(parameter.numel() for parameter in trained.parameters())
