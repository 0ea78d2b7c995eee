"""An adapter that does not fit a config's model: the option that gives the layer the adapter's setting."""
import re

import pytest
from helpers import layer_of
from mmengine.config import Config

from mspe_mm.errors import InputError
from mspe_mm.models.adapter import save_adapter
from mspe_mm.runtime.runner import load_adapter_for


def make_layer(**settings):
    return layer_of(**{**dict(embed_dims=8, grid_size=(3, 4)), **settings})


@pytest.mark.parametrize(('model', 'key'), [
    (dict(type='A'), 'model.backbone'), (dict(patch_embed=dict(a=1)), 'model.patch_embed')])
@pytest.mark.parametrize(('settings', 'option'), [
    (dict(kernel_sizes=(4, 16)), 'kernel_sizes="[4, 8, 12, 16]"'),
    (dict(correlation=0.9), 'downsampling.correlation=0.0'),
    (dict(antialias=False), 'downsampling.antialias=True'),
    (dict(parameterization='native'), 'parameterization=residual'),
])
def test_load_adapter_for_says_which_option_fits(tmp_path, model, key, settings, option):
    path = str(tmp_path / 'adapter.safetensors')
    save_adapter(make_layer(), path)
    with pytest.raises(InputError, match=re.escape(f'; add --cfg-options {key}.{option}') + '$'):
        load_adapter_for(Config(dict(model=model)), make_layer(**settings), path)


def test_load_adapter_for_advises_nothing_where_no_option_helps(tmp_path):
    path = str(tmp_path / 'adapter.safetensors')
    save_adapter(make_layer(), path)
    with pytest.raises(InputError, match=r'tuned for embed_dims=8, and the model has embed_dims=4$'):
        load_adapter_for(Config(dict(model=dict(type='A'))), make_layer(embed_dims=4), path)
