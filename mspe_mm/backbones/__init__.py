"""timm's plain Vision Transformers as backbones for MMSegmentation and MMDetection. Importing this module registers
:class:`~mspe_mm.backbones.timm_vit.MSPETimmViT` for both: ``custom_imports`` of a config does so beside ``mspe_mm.seg`` or
``mspe_mm.det``."""
try:
    import mmengine  # noqa: F401
    import timm  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'mspe_mm.backbones needs timm and mmengine, and {error.name!r} is missing: install mspe_mm[cls]') from error

from ..runtime import layer_decay  # noqa: F401
from .timm_vit import MSPETimmViT

__all__ = ['MSPETimmViT']
