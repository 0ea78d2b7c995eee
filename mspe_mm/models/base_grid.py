"""Images of any size for hosts that count the pixels of the image, as those of Hugging Face transformers do.

Such hosts compare the image's size with that of their position table, resample the table to it, or reshape tokens by it.
They are shown an image of the size that their own patches have on the token grid, and the layer embeds the real one.
"""
from __future__ import annotations

import inspect
from functools import update_wrapper
from types import CodeType
from typing import Any

from torch import Tensor, nn

from ..layers.choice import choice_for
from ..layers.patch_embed import MultiScalePatchEmbed

IMAGE = 'pixel_values'
"""The argument of all models of transformers that is the batch of images."""


def takes_pixel_values(module: nn.Module) -> bool:
    """Whether a module's images are called as in transformers."""
    return IMAGE in inspect.signature(module.forward).parameters


def enclosing(model: nn.Module, name: str) -> list[str]:
    """The names of the modules around the module ``name`` that take ``pixel_values``, outermost first."""
    parts = name.split('.')
    names = ['.'.join(parts[:depth]) for depth in range(len(parts))]
    return [outer for outer in names if takes_pixel_values(model.get_submodule(outer))]


def put_layer(model: nn.Module, name: str, layer: MultiScalePatchEmbed) -> None:
    """Replace the module ``name`` by ``layer``. Modules around it that take ``pixel_values`` see them on its token grid."""
    parent, _, attribute = name.rpartition('.')
    setattr(model.get_submodule(parent), attribute, layer)
    for outer in enclosing(model, name):
        module = model.get_submodule(outer)
        module.forward = OnBaseGrid(module.forward, name[len(outer):].lstrip('.'))


class OnBaseGrid:
    """The forward pass of a host, for images of any size.

    Images whose size is that of the host's patches on their token grid are passed as they are. For others the host gets
    zeros of that size, which take no memory, and the layer gets the images.

    Args:
        forward: The host's method.
        name: The name of the layer in the host. It may be another layer at each call, and a stock one.
    """

    def __init__(self, forward: Any, name: str) -> None:
        update_wrapper(self, forward, ('__name__', '__doc__'), ())    # its signature, too
        self._forward, self._name = forward, name
        self._position = list(inspect.signature(forward).parameters).index(IMAGE)

    @property
    def __code__(self) -> CodeType:    # torch.export asks for it
        return self._forward.__code__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        images: Any = args[self._position] if len(args) > self._position else kwargs.get(IMAGE)
        layer = self._forward.__self__.get_submodule(self._name)
        if not _embeds(layer, images):
            return self._forward(*args, **kwargs)
        height, width = images.shape[-2:]
        size = tuple(layer.patch_size * tokens for tokens in layer.token_grid((height, width)))
        if size == (height, width):
            return self._forward(*args, **kwargs)
        shown = images.new_zeros(()).expand(*images.shape[:2], *size)
        if len(args) > self._position:
            args = (*args[:self._position], shown, *args[self._position + 1:])
        else:
            kwargs[IMAGE] = shown
        kernel = choice_for(layer).kernel
        with layer.embedding_each([images], None if kernel is None else [kernel]):
            return self._forward(*args, **kwargs)


def _embeds(layer: Any, images: Any) -> bool:
    """Whether ``layer`` puts images on a token grid, and ``images`` are some. A module around may have done it before."""
    return (isinstance(layer, MultiScalePatchEmbed) and layer.kernel_policy != 'constant' and isinstance(images, Tensor)
            and images.dim() == 4 and choice_for(layer).images is None)
