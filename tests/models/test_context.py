"""Every kind of host with kernels that see beyond their patch: its base resolution, its settings and its adapters."""
from __future__ import annotations

from functools import partial

import pytest
import timm
import torch
from helpers import noise, randomize
from mmdet.models.backbones import PyramidVisionTransformerV2
from mmseg.models.backbones import MixVisionTransformer, VisionTransformer

from mspe_mm import InputError, convert_patch_embed
from mspe_mm.det import MSPEViTDet
from mspe_mm.models.adapter import AdapterMismatchError, load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed
from mspe_mm.seg import MSPEViT

BASE = (64, 96)
VIT = dict(img_size=BASE, embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1))
VITDET = dict(img_size=BASE, embed_dim=16, depth=2, num_heads=2, use_rel_pos=True, pretrain_img_size=32)
PYRAMID = dict(embed_dims=8, num_layers=[1] * 4, num_heads=[1, 2, 2, 4])
TIMM = dict(img_size=BASE, embed_dim=16, depth=2, num_heads=2, num_classes=5)


def converted(build, **settings):
    model = build()
    convert_patch_embed(model, BASE, **settings)
    return model


HOSTS = {    # the host's own model, and the one with the layer
    'MSPEViT': (partial(VisionTransformer, **VIT), partial(MSPEViT, attention='naive', **VIT)),
    'MSPEViTDet': (partial(MSPEViTDet, kernel_sizes=(16, ), kernel_policy='constant', **VITDET),
                   partial(MSPEViTDet, **VITDET)),
    'timm ViT': (build := partial(timm.create_model, 'vit_tiny_patch16_224', **TIMM), partial(converted, build)),
    'SegFormer': (build := partial(MixVisionTransformer, **PYRAMID), partial(converted, build)),
    'PVT v2': (build := partial(PyramidVisionTransformerV2, **PYRAMID), partial(converted, build))
}
every_host = pytest.mark.parametrize('name', HOSTS)


def pair(name: str, **settings):
    """The host's model, and one with the layer, tuned kernels and the host's weights."""
    stock, model = (build() if i == 0 else build(**settings) for i, build in enumerate(HOSTS[name]))
    randomize(stock)
    model.load_state_dict(stock.state_dict(), strict=True)
    for one in (stock, model):
        one.eval()
        one.requires_grad_(False)
    return stock, model


def output(model, size):
    out = model(noise(2, 3, *size, dtype=torch.float32))
    return out if isinstance(out, torch.Tensor) else out[-1]


@every_host
def test_the_base_output_is_the_hosts_bit_for_bit(name):
    stock, model = pair(name, context=2)
    assert not find_patch_embed(model).is_tuned()
    randomize(find_patch_embed(model).kernels)
    assert torch.equal(output(model, BASE), output(stock, BASE))


@every_host
@pytest.mark.parametrize('context', [2, {1: 2, 2: 1}])
def test_below_the_base_context_changes_the_output_and_keeps_the_grid(name, context):
    _, model = pair(name, context=context)
    _, plain = pair(name)
    layer = find_patch_embed(model)
    for k in layer.kernel_sizes[:-1]:
        size = (k * layer.grid_size[0], k * layer.grid_size[1])
        found, without = output(model, size), output(plain, size)
        assert found.shape == without.shape == output(plain, BASE).shape
    randomize(layer.kernels)
    assert not torch.equal(output(model, size), found)


@every_host
def test_an_adapter_round_trips_and_is_refused_by_a_model_of_another_context(name, tmp_path):
    path = tmp_path / 'adapter.safetensors'
    settings = dict(context={1: 2, 2: 1}, parameterization='native')
    (_, tuned), (_, other), (_, plain) = pair(name, **settings), pair(name, **settings), pair(name)
    save_adapter(find_patch_embed(randomize(tuned)), path)
    find_patch_embed(other).base.load_state_dict(find_patch_embed(tuned).base.state_dict())
    load_adapter(find_patch_embed(other), path)
    for one, two in zip(*(find_patch_embed(model).kernels.parameters() for model in (tuned, other))):
        assert torch.equal(one, two)
    with pytest.raises(AdapterMismatchError, match=r'was tuned for context={"1": 2, "2": 1}, and the model has context=0'):
        load_adapter(find_patch_embed(plain), path)


@pytest.mark.parametrize('build', [partial(MSPEViT, **VIT), partial(MSPEViTDet, **VITDET), HOSTS['timm ViT'][1]])
def test_a_misspelt_context_is_refused_with_the_key(build):
    with pytest.raises(InputError, match=r'contxt.*context'):
        build(contxt=2)


@pytest.mark.parametrize('name', ['timm ViT', 'SegFormer'])
def test_a_context_that_makes_no_sense_is_refused_when_converting(name):
    with pytest.raises(InputError, match=r'cannot be converted: context must be a number of pixels.*got -1'):
        HOSTS[name][1](context=-1)
