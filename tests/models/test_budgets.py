"""Adapters of layers with several token grids, and the grids chosen for resolutions."""
import json

import pytest
import torch
from helpers import layer_of, randomize
from safetensors import safe_open
from safetensors.torch import save_file

from mspe_mm import InputError
from mspe_mm.models.adapter import AdapterMismatchError, adapter_layer, load_adapter, read_adapter, save_adapter

BUDGETS = {(16, 16): (2, 2), (32, 32): (3, 3)}


def make(**changes):
    torch.manual_seed(0)
    return layer_of(**{**dict(embed_dims=4, grid_size=4, kernel_sizes=(4, 8, 16), token_grids=[2, 3], fit='nearest'),
                       **changes})


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'adapter.safetensors'


@pytest.fixture
def saved(path):
    layer = make()
    randomize(layer.kernels)
    layer.budgets = dict(BUDGETS)
    save_adapter(layer, path)
    return layer


def test_kernels_and_budgets_of_grids_come_back(saved, path):
    layer = make()
    load_adapter(layer, path)
    other = adapter_layer(make(token_grids=(), kernel_sizes=(16, )), path)
    for loaded in (layer, other):
        assert loaded.budgets == BUDGETS
        for name, value in saved.kernels.state_dict().items():
            assert torch.equal(loaded.kernels.get_parameter(name), value)


def test_an_adapter_for_other_grids_is_refused_with_the_setting(saved, path):
    with pytest.raises(AdapterMismatchError, match=r'tuned for token_grids=\[\[2, 2\], \[3, 3\]\], and the model has'):
        load_adapter(make(token_grids=[2]), path)


def test_an_adapter_from_before_there_were_grids_loads(path):
    old = make(token_grids=())
    randomize(old.kernels)
    save_adapter(old, path)
    tensors, metadata = read_adapter(path)
    save_file(tensors, path, {key: value for key, value in metadata.items() if key not in ('token_grids', 'budgets')})
    layer = make(token_grids=())
    load_adapter(layer, path)
    assert layer.budgets == {}
    assert torch.equal(layer.kernels['4'].weight, old.kernels['4'].weight)


@pytest.mark.parametrize('budgets', ['[[16, 16, 2]]', '[[16, 16, 2, 0]]', '[[16, 16, 2, "3"]]', '{}'])
def test_damaged_budgets_are_refused(saved, path, budgets):
    tensors, metadata = read_adapter(path)
    save_file(tensors, path, {**metadata, 'budgets': budgets})
    with pytest.raises(InputError, match='budgets of its metadata'):
        load_adapter(make(), path)


def test_an_adapter_without_the_kernels_of_its_grids_is_refused(saved, path):
    tensors, metadata = read_adapter(path)
    save_file({name: value for name, value in tensors.items() if 'g3x3' not in name}, path, metadata)
    with pytest.raises(InputError, match='does not hold the kernels that its metadata names'):
        load_adapter(make(), path)


def test_budgets_are_numbers_in_the_metadata(saved, path):
    with safe_open(str(path), 'pt') as file:
        assert json.loads(file.metadata()['budgets']) == [[16, 16, 2, 2], [32, 32, 3, 3]]
