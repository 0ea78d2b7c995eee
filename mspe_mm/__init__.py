"""MSPE for OpenMMLab: Vision Transformers at any resolution, by tuning the patch embedding alone.

The names in ``__all__`` are the public interface in Python. :mod:`mspe_mm.seg`, :mod:`mspe_mm.det` and :mod:`mspe_mm.cls`
register the models for MMSegmentation, MMDetection and timm: ``custom_imports`` of a config names one of them.
:mod:`mspe_mm.backbones` registers timm's Vision Transformers as a backbone for the first two.
:mod:`mspe_mm.core` has more parts of the method, in PyTorch alone. Importing ``mspe_mm`` imports neither a host nor PyTorch:
the names are imported at their first use.
"""
import importlib
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .version import __version__

if TYPE_CHECKING:
    from .inference.predictor import Predictor, load
    from .layers.patch_embed import MultiScalePatchEmbed
    from .layers.resize import pi_resize
    from .models.adapter import load_adapter, save_adapter
    from .models.convert import convert_patch_embed
    from .tuning.full_training import MultiResolutionTraining
    from .tuning.kernel_objective import MultiResolutionObjective
    from .tuning.token_grid_objective import TokenGridObjective
    from .tuning.tuned_model import TunedModel

_MODULES = dict(
    MultiResolutionObjective='tuning.kernel_objective',
    MultiResolutionTraining='tuning.full_training',
    MultiScalePatchEmbed='layers.patch_embed',
    Predictor='inference.predictor',
    TokenGridObjective='tuning.token_grid_objective',
    TunedModel='tuning.tuned_model',
    convert_patch_embed='models.convert',
    load='inference.predictor',
    load_adapter='models.adapter',
    pi_resize='layers.resize',
    save_adapter='models.adapter',
)
"""The module of each name that is imported at its first use."""

__all__ = [
    'InputError', 'MultiResolutionObjective', 'MultiResolutionTraining', 'MultiScalePatchEmbed', 'Predictor',
    'TokenGridObjective', 'TunedModel', '__version__', 'convert_patch_embed', 'load', 'load_adapter', 'pi_resize',
    'save_adapter'
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
