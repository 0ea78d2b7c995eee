"""timm's plain Vision Transformers as backbones for MMSegmentation and MMDetection, and backbones tuned without a head.
Importing this module registers :class:`~mspe_mm.backbones.timm_vit.MSPETimmViT` and
:class:`~mspe_mm.backbones.feature_model.MSPEFeatureModel`: ``custom_imports`` of a config does so beside ``mspe_mm.seg``,
``mspe_mm.det`` or ``mspe_mm.cls``."""
try:
    import mmengine  # noqa: F401
    import timm  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'mspe_mm.backbones needs timm and mmengine, and {error.name!r} is missing: install mspe_mm[cls]') from error

from ..runtime import kernel_rates, layer_decay  # noqa: F401
from .feature_model import MSPEFeatureModel
from .timm_vit import MSPETimmViT

__all__ = ['MSPEFeatureModel', 'MSPETimmViT']
