"""timm's models, with errors in one sentence."""
from __future__ import annotations

import difflib

import timm
from timm.data import resolve_model_data_config
from torch import nn

from ..errors import InputError


def create_timm_model(name: str, pretrained: bool = False, checkpoint: str | None = None, **kwargs) -> nn.Module:
    """``timm.create_model`` with errors in one sentence, and ``dynamic_img_size`` if the model supports it.

    Raises:
        InputError: Naming what timm does not know or cannot load.
    """
    if not timm.is_model(name.partition('.')[0]):
        near = difflib.get_close_matches(name.partition('.')[0], timm.list_models(), n=1)
        raise InputError(f'timm {timm.__version__} has no model {name!r}: '
                         + (f'did you mean {near[0]!r}?' if near else 'timm.list_models() lists its names'))
    kwargs.update(pretrained=pretrained and checkpoint is None, checkpoint_path=checkpoint)
    try:
        try:
            return timm.create_model(name, **{'dynamic_img_size': True, **kwargs})
        except TypeError:    # the model has no such choice
            return timm.create_model(name, **kwargs)
    except Exception as error:    # timm and the hub raise all kinds
        what = f'{name} with the weights of {checkpoint}' if checkpoint else name
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise InputError(f'timm cannot make {what}: {reason[:300]}') from error


def preprocessor_for(model: nn.Module) -> dict:
    """The config of a data preprocessor with the mean and the standard deviation of a model of timm, for RGB bytes."""
    config = resolve_model_data_config(model)
    return dict(type='ImgDataPreprocessor', **{key: [255 * value for value in config[key]] for key in ('mean', 'std')})
