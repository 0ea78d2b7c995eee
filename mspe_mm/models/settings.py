"""The settings of the MSPE layer that a backbone takes beside its own."""
from __future__ import annotations

import inspect
from typing import Any

from ..errors import check_names

LAYER_SETTINGS = ('kernel_sizes', 'context', 'token_grids', 'kernel_policy', 'fit', 'parameterization', 'tune_base',
                  'downsampling')
"""Arguments of :class:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed` that a user chooses; the rest follows from the
host."""


def split_layer_settings(settings: dict[str, Any], backbone: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the keyword arguments of a backbone into those of its MSPE layer and its own.

    Args:
        settings: All of them.
        backbone: The class that takes them.

    Raises:
        InputError: For a name that neither has, with the nearest valid one.
    """
    own = [name for cls in backbone.__mro__ if '__init__' in vars(cls)
           for name, parameter in inspect.signature(vars(cls)['__init__']).parameters.items()
           if name != 'self' and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
    check_names(settings, dict.fromkeys([*LAYER_SETTINGS, *own]), backbone.__name__)
    layer = {name: settings[name] for name in LAYER_SETTINGS if name in settings}
    return layer, {name: value for name, value in settings.items() if name not in LAYER_SETTINGS}
