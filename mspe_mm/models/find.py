"""Finding the MSPE layer of a model."""
from __future__ import annotations

from typing import cast

from torch import nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed


def has_patch_embed(model: nn.Module) -> bool:
    """Whether a model has an MSPE layer."""
    return any(isinstance(module, MultiScalePatchEmbed) for module in model.modules())


def patch_embed_name(model: nn.Module) -> str:
    """The name of a model's MSPE layer, as ``get_submodule`` takes it.

    Raises:
        InputError: If the model has none, or more than one.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, MultiScalePatchEmbed)]
    if not names:
        raise InputError(f'{type(model).__name__} has no MSPE patch embedding: convert the model, or take a backbone '
                         'with one')
    if len(names) > 1:
        raise InputError(f'{type(model).__name__} has {len(names)} MSPE patch embeddings ({", ".join(names)}), and one is '
                         'needed')
    return names[0]


def find_patch_embed(model: nn.Module) -> MultiScalePatchEmbed:
    """The MSPE layer of a model.

    Raises:
        InputError: If the model has none, or more than one.
    """
    return cast(MultiScalePatchEmbed, model.get_submodule(patch_embed_name(model)))
