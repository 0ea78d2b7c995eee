"""MSPE for OpenMMLab: Vision Transformers at any resolution, by tuning the patch embedding alone.

The method lives in :mod:`mspe_mm.core` and needs only PyTorch; :mod:`mspe_mm.seg` plugs it into MMSegmentation.
:func:`convert_patch_embed` gives any built model the MSPE layer. Importing ``mspe_mm`` itself imports no host.
"""
from .core import convert_patch_embed
from .errors import InputError
from .version import __version__

__all__ = ['InputError', '__version__', 'convert_patch_embed']
