"""MSPE in MMSegmentation. Importing this module registers its models: ``custom_imports`` of a config does so."""
try:
    import mmcv  # noqa: F401
    import mmengine  # noqa: F401
    import mmseg  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'mspe_mm.seg needs MMSegmentation, and {error.name!r} is missing: install mspe_mm[onedl] (maintained) or '
        'mspe_mm[upstream] (the 2024 releases)') from error

from ..data import change_resolution, image_folder  # noqa: F401
from ..runtime import hooks, kernel_rates, layer_decay, runner  # noqa: F401
from .encoder_decoder import MSPEEncoderDecoder
from .metric import BootstrapIoUMetric
from .vit import MSPEViT

__all__ = ['BootstrapIoUMetric', 'MSPEEncoderDecoder', 'MSPEViT']
