"""MSPE in MMDetection. Importing this module registers its models: ``custom_imports`` of a config does so."""
try:
    import mmcv.ops  # noqa: F401
    import mmdet  # noqa: F401
    import mmengine  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'mspe_mm.det needs MMDetection and mmcv with its compiled ops, and {error.name!r} is missing: install '
        'mspe_mm[onedl] (maintained) or mspe_mm[upstream] (the 2024 releases)') from error

from ..data import change_resolution, image_folder  # noqa: F401
from ..runtime import hooks, kernel_rates, layer_decay, runner  # noqa: F401
from .class_checks import DatasetCheckHook
from .data_preprocessor import MSPEDetDataPreprocessor
from .detectors import (
    MSPEDINO,
    MSPEFCOS,
    MSPECascadeRCNN,
    MSPEFasterRCNN,
    MSPEMaskRCNN,
    MSPERetinaNet,
    MultiResolutionDetectorMixin,
)
from .neck import MSPELN2d, MSPESimpleFPN
from .vit import MSPEViTDet

__all__ = [
    'MSPEDINO', 'MSPEFCOS', 'DatasetCheckHook', 'MSPECascadeRCNN', 'MSPEDetDataPreprocessor', 'MSPEFasterRCNN', 'MSPELN2d',
    'MSPEMaskRCNN', 'MSPERetinaNet', 'MSPESimpleFPN', 'MSPEViTDet', 'MultiResolutionDetectorMixin'
]
