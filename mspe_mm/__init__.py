"""MSPE for OpenMMLab: Vision Transformers at any resolution, by tuning the patch embedding alone.

The method lives in :mod:`mspe_mm.core` and needs only PyTorch; :mod:`mspe_mm.seg`, :mod:`mspe_mm.det` and :mod:`mspe_mm.cls`
plug it into MMSegmentation, MMDetection and timm. ``convert_patch_embed`` gives any built model the MSPE layer. Importing
``mspe_mm`` itself imports neither a host nor PyTorch.
"""
from typing import Any

from .errors import InputError
from .version import __version__

__all__ = ['InputError', '__version__', 'convert_patch_embed']


def __getattr__(name: str) -> Any:
    if name == 'convert_patch_embed':    # on first use: generating data, say, needs no PyTorch
        from .models.convert import convert_patch_embed
        return convert_patch_embed
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
