"""model.adapter: tuned kernels that are loaded whenever the weights are, by whomever."""
import copy

import pytest
import torch
from helpers import randomize
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS

import mspe_mm.seg  # noqa: F401
from mspe_mm.cls import MSPEClassifier
from mspe_mm.errors import InputError
from mspe_mm.models.adapter import AdapterMismatchError, save_adapter

IMAGE = torch.zeros(1, 3, 8, 12)


def segmentor(kernel_sizes=(4, 8, 16), **settings):
    init_default_scope('mmseg')
    return MODELS.build(ConfigDict(
        type='MSPEEncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(), **settings,
        backbone=dict(type='MSPEViT', img_size=(32, 48), embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ),
                      kernel_sizes=kernel_sizes),
        decode_head=dict(type='SETRUPHead', in_channels=16, channels=8, in_index=0, num_classes=3, num_convs=1, up_scale=2,
                         kernel_size=1, align_corners=False, norm_cfg=dict(type='BN')))).eval()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """``merged.pth``, ``stock.pth`` without patch kernels, and ``tuned.safetensors``; returns the tuned model."""
    monkeypatch.chdir(tmp_path)
    model = randomize(segmentor())
    torch.save(dict(state_dict=model.state_dict()), 'merged.pth')
    torch.save(dict(state_dict={name: value for name, value in model.state_dict().items() if '.kernels.' not in name}),
               'stock.pth')
    save_adapter(model.mspe_layer, 'tuned.safetensors')
    return model


def loaders():
    """Who may load weights."""
    return {'mmengine': lambda model, path: load_checkpoint(model, path),
            'PyTorch': lambda model, path: model.load_state_dict(torch.load(path)['state_dict'], strict=True)}


@pytest.mark.parametrize('by', loaders())
@pytest.mark.parametrize('checkpoint', ['stock.pth', 'merged.pth'])
def test_an_adapter_is_loaded_with_the_weights(files, by, checkpoint):
    model = segmentor(adapter='tuned.safetensors')
    loaders()[by](model, checkpoint)
    for name, value in files.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert torch.equal(model(IMAGE), files(IMAGE))


def test_an_adapter_is_loaded_again_with_the_weights_and_by_a_copy_of_the_model(files):
    model = copy.deepcopy(segmentor(adapter='tuned.safetensors'))
    for _ in range(2):
        load_checkpoint(model, 'stock.pth')
        assert torch.equal(model(IMAGE), files(IMAGE))


def test_an_adapter_that_waits_for_its_weights_is_not_ignored(files):
    model = segmentor(adapter='tuned.safetensors')
    with pytest.raises(InputError, match=r'tuned\.safetensors is not loaded.*load the checkpoint that it was tuned from'):
        model(IMAGE)
    other = torch.load('stock.pth')
    other['state_dict']['backbone.patch_embed.projection.weight'] += 1
    torch.save(other, 'other.pth')
    load_checkpoint(model, 'other.pth')
    with pytest.raises(InputError, match=r'tuned\.safetensors is not loaded'):
        model(IMAGE)
    load_checkpoint(model, 'stock.pth')
    assert torch.equal(model(IMAGE), files(IMAGE))


def test_an_adapter_does_not_replace_other_tuned_kernels(files):
    other = torch.load('merged.pth')
    other['state_dict']['backbone.patch_embed.kernels.4.weight'] += 1
    torch.save(other, 'other.pth')
    with pytest.raises(InputError, match=r'tuned patch kernels that are not those of model\.adapter=tuned\.safetensors'):
        load_checkpoint(segmentor(adapter='tuned.safetensors'), 'other.pth')


def test_an_adapter_of_another_layer_and_a_missing_one_are_refused_at_once(files):
    with pytest.raises(AdapterMismatchError, match=r'tuned for kernel_sizes=\[4, 8, 16\]'):
        segmentor(kernel_sizes=(8, 16), adapter='tuned.safetensors')
    with pytest.raises(InputError, match=r'adapter none\.safetensors does not exist'):
        segmentor(adapter='none.safetensors')


def test_an_adapter_of_a_model_that_loads_its_own_weights_needs_no_checkpoint(tmp_path):
    settings = dict(timm_name='vit_tiny_patch16_224', model_kwargs=dict(img_size=32, depth=1, num_classes=3))
    model = MSPEClassifier(**settings)
    torch.save(model.backbone.state_dict(), tmp_path / 'merged.pth')
    weights = {name: value for name, value in model.backbone.state_dict().items() if '.kernels.' not in name}
    torch.save(weights, tmp_path / 'timm.pth')
    randomize(model.mspe_layer.kernels)
    save_adapter(model.mspe_layer, tmp_path / 'tuned.safetensors')
    again = MSPEClassifier(checkpoint=str(tmp_path / 'timm.pth'), adapter=str(tmp_path / 'tuned.safetensors'), **settings)
    for name, value in model.mspe_layer.kernels.state_dict().items():
        assert torch.equal(again.mspe_layer.kernels.state_dict()[name], value)


def test_a_removed_adapter_leaves_the_kernels_of_a_checkpoint_as_they_are(files):
    other = torch.load('merged.pth')
    other['state_dict']['backbone.patch_embed.kernels.4.weight'] += 1
    torch.save(other, 'other.pth')
    model = segmentor(adapter='tuned.safetensors')
    model.adapter.remove()    # as a resumed training does
    load_checkpoint(model, 'other.pth')
    for name, value in other['state_dict'].items():
        assert torch.equal(model.state_dict()[name], value), name
    assert model(IMAGE).isfinite().all()
