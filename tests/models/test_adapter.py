"""Adapters: what they hold, that they come back, and that a wrong or damaged one is refused by name."""
import errno
import json
import os
import re
import resource

import pytest
import torch
from helpers import layer_of, noise, randomize
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from mspe_mm import InputError, __version__
from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.models.adapter import AdapterMismatchError, adapter_layer, base_digest, describe, load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed


def make_layer(seed: int = 0, **settings) -> MultiScalePatchEmbed:
    """A layer with a base kernel of its own seed and untrained kernels, base resolution 48 x 64."""
    layer = layer_of(**{**dict(embed_dims=8, grid_size=(3, 4)), **settings})
    for parameter in layer.base.parameters():
        parameter.data.copy_(noise(*parameter.shape, seed=seed))
    layer.reset_kernels()
    return layer


def tuned(layer: MultiScalePatchEmbed) -> MultiScalePatchEmbed:
    randomize(layer.kernels)
    return layer


def untouched(layer: MultiScalePatchEmbed, before: dict) -> bool:
    return all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def snapshot(layer: MultiScalePatchEmbed) -> dict:
    return {name: value.clone() for name, value in layer.state_dict().items()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'adapter.safetensors'


@pytest.fixture
def saved(path):
    """An adapter file and the layer that it was saved from."""
    layer = tuned(make_layer())
    save_adapter(layer, path)
    return layer


# -- What is saved comes back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize('settings', [
    {}, dict(parameterization='native'), dict(tune_base=True), dict(bias=False), dict(proj_name='projection'),
    dict(interpolation='bicubic', antialias=False), dict(context=2), dict(context={4: 2, 8: 1}, parameterization='native')])
def test_a_saved_adapter_makes_the_base_model_the_tuned_one(path, settings):
    layer = tuned(make_layer(**settings))
    save_adapter(layer, path)
    other = make_layer(**settings)
    assert not untouched(other, layer.state_dict())
    load_adapter(other, path)
    assert untouched(other, layer.state_dict())


@pytest.mark.parametrize('settings', [
    dict(kernel_sizes=(5, 16)), dict(parameterization='native'), dict(tune_base=True), dict(context={4: 2, 8: 1})])
def test_an_adapter_makes_a_second_layer_beside_one_of_other_kernels(path, settings):
    other = tuned(make_layer(**settings))
    save_adapter(other, path)
    layer = tuned(make_layer()).eval()
    before = snapshot(layer)
    second = adapter_layer(layer, path)
    assert second.base is layer.base
    assert second.kernel_sizes == other.kernel_sizes
    assert not second.training
    for size in [(15, 20), (24, 32), (48, 64)]:
        x = noise(1, 3, *size, dtype=torch.float32)
        assert torch.equal(second(x)[0], other.eval()(x)[0])
    assert untouched(layer, before)


def test_an_adapter_of_another_patch_size_makes_no_second_layer(path):
    save_adapter(make_layer(patch_size=12, kernel_sizes=(6, 12)), path)
    with pytest.raises(InputError, match=f'{re.escape(str(path))} does not fit this model: kernel_sizes must include'):
        adapter_layer(make_layer(), path)


def test_kernels_cached_before_loading_are_not_used_after_it(path, saved):
    other = make_layer().eval()
    x = noise(1, 3, 18, 24, dtype=torch.float32)
    with torch.no_grad():
        untrained = other(x)[0]
        load_adapter(other, path)
        assert torch.equal(other(x)[0], saved(x)[0])
        assert not torch.equal(other(x)[0], untrained)


def test_the_file_holds_the_kernels_alone_and_what_they_were_tuned_for(path, saved):
    with safe_open(str(path), framework='pt') as file:
        names, metadata = set(file.keys()), file.metadata()
    assert names == {f'{k}.{name}' for k in (4, 8, 12) for name in ('weight', 'bias')}
    assert metadata.pop('format') == 'mspe_mm.adapter/1'
    assert metadata.pop('version') == __version__
    metadata = {key: json.loads(value) for key, value in metadata.items()}
    assert re.fullmatch('[0-9a-f]{64}', metadata.pop('base_digest'))
    assert metadata == dict(
        embed_dims=8, in_channels=3, patch_size=16, base_kernel=16, base_resolution=[48, 64], kernel_sizes=[4, 8, 12, 16],
        tuned_sizes=[4, 8, 12], token_grids=[], budgets=[], context=0, edge='zeros', parameterization='residual',
        interpolation='bilinear', antialias=True, correlation=0.)


def test_an_adapter_of_vit_b_is_a_few_megabytes(path):
    save_adapter(MultiScalePatchEmbed(), path)
    parameters = 3 * (16 + 64 + 144) * 768 + 3 * 768
    assert 4 * parameters < path.stat().st_size < 4 * parameters + 4096


def test_save_adapter_makes_the_folder(tmp_path, saved):
    layer = make_layer()
    save_adapter(saved, tmp_path / 'new' / 'folder' / 'adapter.safetensors')
    load_adapter(layer, tmp_path / 'new' / 'folder' / 'adapter.safetensors')
    assert untouched(layer, snapshot(saved))


@pytest.mark.parametrize('change', [
    lambda base: base.weight.data.view(-1)[3:4].add_(1e-6),
    lambda base: base.bias.data.neg_(),
])
def test_the_digest_changes_with_any_number_of_the_base_kernel(change):
    layer = make_layer()
    digest = base_digest(layer)
    change(layer.base)
    assert base_digest(layer) != digest


def test_the_digest_changes_with_nothing_but_the_base_kernel():
    assert base_digest(make_layer()) == base_digest(tuned(make_layer())) == base_digest(make_layer(kernel_sizes=(2, 16)))


# -- What does not fit is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(('settings', 'sentence'), [
    (dict(embed_dims=12), 'embed_dims=8.* the model has embed_dims=12'),
    (dict(in_channels=1), 'in_channels=3.* the model has in_channels=1'),
    (dict(patch_size=12), 'patch_size=16.* the model has patch_size=12'),
    (dict(base_kernel=31), 'base_kernel=16.* the model has base_kernel=31'),
    (dict(grid_size=(3, 3)), r'base_resolution=\[48, 64\].* the model has base_resolution=\[48, 48\]'),
    (dict(kernel_sizes=(4, 16)), r'kernel_sizes=\[4, 8, 12, 16\].* the model has kernel_sizes=\[4, 16\]'),
    (dict(tune_base=True), r'tuned_sizes=\[4, 8, 12\].* the model has tuned_sizes=\[4, 8, 12, 16\]'),
    (dict(parameterization='native'), 'parameterization="residual".* the model has parameterization="native"'),
    (dict(interpolation='area'), 'interpolation="bilinear".* the model has interpolation="area"'),
    (dict(antialias=False), 'antialias=true.* the model has antialias=false'),
    (dict(correlation=0.9), r'correlation=0\.0.* the model has correlation=0\.9'),
    (dict(context=2), 'context=0.* the model has context=2'),
    (dict(context={8: 1, 4: 2}), 'context=0.* the model has context={"4": 2, "8": 1}'),
])
def test_an_adapter_of_another_model_is_refused_with_what_differs(path, saved, settings, sentence):
    layer = make_layer(**settings)
    before = snapshot(layer)
    with pytest.raises(InputError, match=f'{re.escape(str(path))} does not fit this model.*{sentence}'):
        load_adapter(layer, path)
    assert untouched(layer, before)


@pytest.mark.parametrize(('settings', 'setting', 'value'), [
    (dict(kernel_sizes=(4, 16)), 'kernel_sizes', [4, 8, 12, 16]),
    (dict(correlation=0.9), 'correlation', 0.0),
    (dict(antialias=False), 'antialias', True),
    (dict(context=2), 'context', 0),
    (dict(parameterization='native'), 'parameterization', 'residual'),
])
def test_load_adapter_names_the_setting_that_differs(path, saved, settings, setting, value):
    with pytest.raises(AdapterMismatchError, match=f'tuned for {setting}=') as error:
        load_adapter(make_layer(**settings), path)
    assert (error.value.setting, error.value.value) == (setting, value)


def test_overlapping_kernels_of_another_extent_are_refused_though_their_patches_are_the_same(path):
    overlapping = dict(patch_size=4, kernel_sizes=(1, 2, 4))
    save_adapter(make_layer(base_kernel=7, **overlapping), path)
    with pytest.raises(InputError, match='was tuned for base_kernel=7, and the model has base_kernel=9'):
        load_adapter(make_layer(base_kernel=9, **overlapping), path)


def test_load_adapter_takes_files_without_base_kernel(path, saved):
    """Earlier versions did not write it."""
    metadata, layer = describe(saved), make_layer()
    del metadata['base_kernel']
    save_file(saved.kernels.state_dict(), path, metadata)
    load_adapter(layer, path)
    assert untouched(layer, snapshot(saved))


def test_an_adapter_of_before_there_was_a_correlation_is_one_of_pi_resize(path, saved):
    metadata = describe(saved)
    del metadata['correlation']
    save_file(saved.kernels.state_dict(), path, metadata)
    load_adapter(make_layer(), path)
    with pytest.raises(InputError, match='correlation'):
        load_adapter(make_layer(correlation=0.9), path)


def test_an_adapter_of_before_there_was_context_has_none(path, saved):
    metadata, layer = describe(saved), make_layer()
    del metadata['context']
    save_file(saved.kernels.state_dict(), path, metadata)
    load_adapter(layer, path)
    assert untouched(layer, snapshot(saved))
    assert adapter_layer(make_layer(context=2), path).context == 0
    with pytest.raises(AdapterMismatchError, match='was tuned for context=0, and the model has context=2'):
        load_adapter(make_layer(context=2), path)


def test_an_adapter_of_before_the_image_was_continued_is_refused_where_kernels_see_beyond_it(path):
    layer = make_layer(context=2)
    save_file(layer.kernels.state_dict(), path, {key: value for key, value in describe(layer).items() if key != 'edge'})
    with pytest.raises(AdapterMismatchError, match=r'edge="zeros", and the model has edge="reflection"; .*tune it anew'):
        load_adapter(layer, path)


@pytest.mark.parametrize(('context', 'sentence'), [
    ('1.5', 'is damaged: the context of its metadata is 1.5'), ('[2]', 'is damaged'), ('null', 'is damaged'),
    ('{"4": "2"}', 'does not fit this model: context must be'), ('{"99": 2}', 'does not fit this model: context must be'),
    ('-2', 'does not fit this model: context must be')])
def test_an_adapter_whose_context_makes_no_sense_is_refused_by_name(path, saved, context, sentence):
    save_file(saved.kernels.state_dict(), path, {**describe(saved), 'context': context})
    with pytest.raises(InputError, match=sentence):
        adapter_layer(make_layer(), path)


def test_an_adapter_of_another_checkpoint_is_refused_with_both_base_kernels(path, saved):
    layer = make_layer(seed=1)
    before = snapshot(layer)
    sentence = f'base kernel {base_digest(saved)[:12]}, and the checkpoint has {base_digest(layer)[:12]}'
    with pytest.raises(InputError, match=f'{re.escape(str(path))} does not fit this checkpoint.*{sentence}'):
        load_adapter(layer, path)
    assert untouched(layer, before)


def test_a_missing_file_is_refused_by_name(path):
    with pytest.raises(InputError, match=f'{re.escape(str(path))} does not exist'):
        load_adapter(make_layer(), path)
    with pytest.raises(InputError, match=f'{re.escape(str(path.parent))} does not exist'):
        load_adapter(make_layer(), path.parent)


@pytest.mark.parametrize('share', [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(path, saved, share):
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    layer = make_layer()
    before = snapshot(layer)
    with pytest.raises(InputError, match=f'{re.escape(str(path))} cannot be read'):
        load_adapter(layer, path)
    assert untouched(layer, before)


def test_a_file_of_another_kind_is_refused_by_name(path):
    torch.save(make_layer().state_dict(), path)
    with pytest.raises(InputError, match=f'{re.escape(str(path))} cannot be read.*not a safetensors file'):
        load_adapter(make_layer(), path)


@pytest.mark.parametrize('metadata', [None, dict(format='pt')])
def test_a_safetensors_file_that_is_no_adapter_is_refused_by_name(path, metadata):
    save_file(make_layer().kernels.state_dict(), path, metadata)
    with pytest.raises(InputError, match=f'{re.escape(str(path))} is not an adapter'):
        load_adapter(make_layer(), path)


@pytest.mark.parametrize(('change', 'culprit'), [
    (lambda tensors: tensors.pop('8.weight'), r'8\.weight'),
    (lambda tensors: tensors.update(extra=torch.zeros(1)), 'extra'),
    (lambda tensors: tensors.update({'8.weight': torch.zeros(8, 3, 7, 7)}), r'8\.weight')])
def test_a_file_whose_tensors_are_not_those_of_its_metadata_is_refused_in_one_line(path, saved, change, culprit):
    tensors = dict(saved.kernels.state_dict())
    change(tensors)
    save_file(tensors, path, describe(saved))
    layer = make_layer()
    with pytest.raises(InputError, match=f'{re.escape(str(path))} does not hold the kernels.*{culprit}') as refusal:
        load_adapter(layer, path)
    assert '\n' not in str(refusal.value)


# -- A save that fails leaves what was there ---------------------------------------------------------------------------


def test_a_save_that_cannot_take_its_place_leaves_the_file_before_it(path, saved, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, 'Input/output error')

    content = path.read_bytes()
    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='Input/output error'):
        save_adapter(make_layer(seed=2), path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_save_without_room_is_an_os_error_and_leaves_the_file_before_it(path, saved):
    """The tools tell a full disk by its OSError."""
    content, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match='too large') as failure:
            save_adapter(make_layer(seed=2), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.errno == errno.EFBIG
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


# -- Finding the layer -------------------------------------------------------------------------------------------------


def test_the_one_layer_of_a_model_is_found_however_deep():
    layer = make_layer()
    assert find_patch_embed(nn.ModuleDict(dict(backbone=nn.Sequential(nn.Linear(2, 2), layer)))) is layer
    assert find_patch_embed(layer) is layer


@pytest.mark.parametrize(('model', 'sentence'), [
    (nn.Sequential(nn.Linear(2, 2)), 'Sequential has no MSPE patch embedding'),
    (nn.Sequential(make_layer(), make_layer()), 'Sequential has 2 MSPE patch embeddings')])
def test_a_model_without_one_layer_is_refused_by_name(model, sentence):
    with pytest.raises(InputError, match=sentence):
        find_patch_embed(model)


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e7])
def test_save_adapter_never_writes_kernels_that_have_diverged(path, saved, value):
    before = path.read_bytes()
    saved.kernels['8'].weight.data.view(-1)[0] = value
    with pytest.raises(InputError, match=rf'{re.escape(str(path))} is not written: its 8\.weight has values'):
        save_adapter(saved, path)
    assert path.read_bytes() == before
