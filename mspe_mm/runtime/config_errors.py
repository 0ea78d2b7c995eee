"""Errors of mmengine while it builds what a config describes, as one sentence."""
from __future__ import annotations

import difflib
import inspect
import re
from contextlib import suppress
from importlib import import_module
from traceback import walk_tb
from types import FrameType

from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.registry import Registry, build_from_cfg

from ..errors import InputError, check_names

PLUGINS = dict(mmseg='mspe_mm.seg', mmdet='mspe_mm.det', mmengine='mspe_mm.cls')
"""What ``custom_imports`` has to name for our types, by ``default_scope``."""
VALIDATION = 'mspe_mm.evaluation.validation'
BACKBONES = 'mspe_mm.backbones'
"""What it has to name for validation at low resolutions, and for timm's backbones, in every scope."""


def config_error(error: Exception) -> InputError | None:
    """The sentence for an error that a config causes; None for any other error.

    Covered are a type that no registry has, an argument that a class does not take or lacks, a key that the config lacks,
    settings that PyTorch's data loader refuses, a pipeline that leaves the images of a batch at different sizes, and a
    one-cycle schedule that mmengine cannot divide.
    """
    text = ' '.join(str(error.args[0] if error.args else '').split())
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    built = [frame for frame in frames if frame.f_code is build_from_cfg.__code__]
    if isinstance(error, KeyError) and built and ' registry. ' in text:
        return _unknown_type(built[-1])
    if isinstance(error, TypeError) and built and re.search(r'unexpected keyword argument|missing \d+ required', text):
        return _wrong_argument(built[-1], text)
    lacking = re.search(r"'ConfigDict' object has no attribute '(\w+)'", text)
    if isinstance(error, AttributeError) and lacking:
        return InputError(f'the config has no {lacking[1]}: add it to the config, or give it by --cfg-options')
    if isinstance(error, (TypeError, ValueError)) and frames and _module(frames[-1]).startswith('torch.utils.data'):
        return InputError(f'the settings of a data loader cannot be used: {text}')
    if isinstance(error, RuntimeError) and 'stack expects each tensor to be equal size' in text:
        return InputError(f'the images of a batch have different sizes, in px {text.partition("but got ")[2]}: resize, crop '
                          'or pad them to one size in the pipeline')
    if isinstance(error, ZeroDivisionError) and isinstance(frames[-1].f_locals.get('self'), OneCycleParamScheduler):
        steps = frames[-1].f_locals['self'].total_steps
        return InputError(f'OneCycleLR of param_scheduler has {steps} steps, of which the warm-up would be one, and '
                          'mmengine divides by zero: set pct_start=0.3, or train longer')
    return None


def _module(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '')


def _unknown_type(frame: FrameType) -> InputError:
    registry, name = frame.f_locals['registry'], str(frame.f_locals['obj_type'])
    sentence = f'{registry.scope} has no {registry.name} of type {name!r}'
    for scope, plugin in [*PLUGINS.items(), *((registry.scope, plugin) for plugin in (VALIDATION, BACKBONES))]:
        with suppress(ImportError):
            import_module(plugin)
        found = registry.get(name if scope == registry.scope else f'{scope}.{name}')
        if found is not None and scope == registry.scope:
            return InputError(f"{sentence} before {plugin} is imported: add custom_imports=dict(imports=['{plugin}'], "
                              'allow_failed_imports=False) to the config')
        if found is not None and scope != 'mmengine':
            return InputError(f'{sentence}, it is of {scope}: write {scope}.{name}, or correct default_scope of the config')
    near = difflib.get_close_matches(name.rpartition('.')[2], _names(registry), n=1)
    return InputError(f'{sentence}' + (f': did you mean {near[0]!r}?' if near else
                                       ': correct the type, or add the module that defines it to custom_imports'))


def _names(registry: Registry | None) -> set[str]:
    return set() if registry is None else {*registry.module_dict, *_names(registry.parent)}


def _wrong_argument(frame: FrameType, text: str) -> InputError:
    cls = frame.f_locals['obj_cls']
    name = getattr(cls, '__name__', str(cls))
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", text)
    try:
        if unexpected:
            check_names(unexpected.groups(), _settings(cls), name)
    except InputError as error:
        return error
    return InputError(f'{name} cannot be built from its config: {text}')


def _settings(cls: type) -> list[str]:
    """The arguments that a class takes by name, its bases' included, or those of a function."""
    makers = [base.__init__ for base in cls.__mro__ if '__init__' in vars(base)] if inspect.isclass(cls) else [cls]
    variable = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    return list(dict.fromkeys(name for maker in makers[:-1] or makers for name, parameter in
                              inspect.signature(maker).parameters.items()
                              if name != 'self' and parameter.kind not in variable))
