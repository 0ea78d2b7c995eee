"""The methods that a sweep compares, all on the same model and weights."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from ..layers.downsampling import PRIOR_CORRELATION
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.find import find_patch_embed, patch_embed_name

METHODS = ('vanilla', 'img_resize', 'flexivit', 'prior', 'calibrated', 'mspe', 'finetuned')
"""vanilla: The stock model. Its patch size is fixed, so smaller images have fewer tokens.

img_resize: The image is resized to the base resolution, then embedded as by ``vanilla``.
flexivit: The pretrained kernel, PI-resized so that the token grid stays the base grid; untrained.
prior: As ``flexivit``, by the resize that is optimal for correlated pixels, with context as the layer. The correlation is
    the layer's, or that of photographs (:data:`~mspe_mm.layers.downsampling.PRIOR_CORRELATION`) if it has none.
calibrated: Kernels solved in closed form from unlabelled images: an adapter of tools/calibrate.py.
mspe: The tuned layer.
finetuned: The full fine-tuning baseline: another checkpoint, in which all weights were trained at several resolutions. A
    checkpoint of the stock architecture embeds as ``vanilla`` does (ResFormer); one with patch kernels uses its kernels.
"""

FROM_FILES = ('calibrated', 'finetuned')
"""Methods that are read from a file of their own."""


def may_fail(method: str) -> bool:
    """Whether a method changes the token grid with the resolution. Not every host model takes every grid."""
    return method in ('vanilla', 'finetuned')


def restores_image(method: str) -> bool:
    """Whether a method resizes the image back to the base resolution before the model embeds it."""
    return method == 'img_resize'


def method_layer(layer: MultiScalePatchEmbed, method: str,
                 calibrated: MultiScalePatchEmbed | None = None,
                 finetuned: dict[str, Tensor] | None = None) -> MultiScalePatchEmbed:
    """The patch embedding of ``method``. The layers of the baselines share the pretrained kernel of ``layer``."""
    if method in ('mspe', 'calibrated'):
        return layer if method == 'mspe' else calibrated
    if method == 'finetuned' and any('.kernels.' in name for name in finetuned):
        return layer
    if method == 'prior':
        return layer.single_kernel(layer.kernel_policy, layer.downsampling.correlation or PRIOR_CORRELATION, layer.context)
    return layer.single_kernel(layer.kernel_policy if method == 'flexivit' else 'constant')


@contextmanager
def using_method(model: nn.Module, method: str,
                 calibrated: MultiScalePatchEmbed | None = None,
                 finetuned: dict[str, Tensor] | None = None) -> Iterator[MultiScalePatchEmbed]:
    """Within the context, ``model`` embeds images by ``method``; yields the layer that embeds.

    The context changes the model: it replaces the MSPE layer, and with ``finetuned`` it loads other weights. No other thread
    may use the model meanwhile. At the end of the context, also after an error, the layer and the weights are restored.

    Args:
        model: A model with one MSPE layer.
        method: One of :data:`METHODS`.
        calibrated: The layer of the method ``calibrated``.
        finetuned: The state dict of the method ``finetuned``. The weights of ``model`` are copied meanwhile.
    """
    name = patch_embed_name(model)
    layer = model.get_submodule(name)
    parent = model.get_submodule(name.rpartition('.')[0])
    attribute = name.rpartition('.')[2]
    before = {key: value.clone() for key, value in model.state_dict().items()} if method == 'finetuned' else None
    try:
        if before is not None:
            model.load_state_dict(finetuned, strict=False)    # stock checkpoints may lack BatchNorm's counters
        replacement = method_layer(layer, method, calibrated, finetuned)
        setattr(parent, attribute, replacement)
        yield replacement
    finally:
        setattr(parent, attribute, layer)
        if before is not None:
            model.load_state_dict(before)


def trained_parameters(model: nn.Module, method: str) -> int:
    """Number of parameters that ``method`` trains: all, those of the kernels, or none.

    Args:
        model: The model within :func:`using_method`.
        method: The same method.
    """
    trained = model if method == 'finetuned' else find_patch_embed(model).kernels
    return sum(parameter.numel() for parameter in trained.parameters())
