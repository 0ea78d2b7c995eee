"""MSPE in timm's classifiers, under mmengine's runner. Importing this module registers its models: ``custom_imports`` of a
config does so. OpenMMLab's mmcv, mmseg and mmdet are not needed."""
try:
    import mmengine  # noqa: F401
    import timm  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'mspe_mm.cls needs timm and mmengine, and {error.name!r} is missing: install mspe_mm[cls]') from error

from ..data import change_resolution, image_folder  # noqa: F401
from ..runtime import hooks, kernel_rates, runner  # noqa: F401
from .class_checks import ClassCheckHook
from .classifier import MSPEClassifier, TimmClassifier
from .dataset import TimmImageFolder
from .metric import TopKAccuracy
from .rivit import RIViT
from .transforms import LoadRGBImage, PackImage, TimmTransform, TorchvisionTransform

__all__ = [
    'ClassCheckHook', 'LoadRGBImage', 'MSPEClassifier', 'PackImage', 'RIViT', 'TimmClassifier', 'TimmImageFolder',
    'TimmTransform', 'TopKAccuracy', 'TorchvisionTransform'
]
