"""Each method is what it is called, from the same weights."""
from dataclasses import replace

import pytest
import torch
from torch import nn

from mspe_mm.core import MultiScalePatchEmbed, pi_resize
from mspe_mm.evaluation.methods import METHODS, trained_parameters, using_method


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.patch_embed = MultiScalePatchEmbed(3, 8, 16, 4, (4, 16))
        nn.init.normal_(self.backbone.patch_embed.kernels['4'].weight)    # tuned, so that mspe is no other method


@pytest.fixture
def model():
    return Model().eval()


def calibrated(model):
    layer = model.backbone.patch_embed.sharing_base(kernel_sizes=(6, 16))
    nn.init.constant_(layer.kernels['6'].weight, 0.1)
    return layer


def embed(model, method, size):
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with using_method(model, method, calibrated(model)) as layer, torch.no_grad():
        assert model.backbone.patch_embed is layer
        return layer(image), image


def test_vanilla_is_the_stock_convolution_at_any_size(model):
    (tokens, grid), image = embed(model, 'vanilla', (32, 48))
    assert grid == (2, 3)
    assert torch.equal(tokens, model.backbone.patch_embed.proj(image).flatten(2).transpose(1, 2))


def test_flexivit_is_the_resized_base_kernel_on_the_base_grid(model):
    (tokens, grid), image = embed(model, 'flexivit', (16, 16))
    layer = model.backbone.patch_embed
    expected = nn.functional.conv2d(image, layer.resize_kernel(layer.proj.weight, (4, 4)), layer.proj.bias, stride=4)
    assert grid == (4, 4)
    assert torch.equal(tokens, expected.flatten(2).transpose(1, 2))


def test_prior_has_the_context_of_the_layer_and_vanilla_and_flexivit_have_none(model):
    model.backbone.patch_embed = model.backbone.patch_embed.sharing_base(context=2).eval()
    for method, context in (('vanilla', 0), ('flexivit', 0), ('prior', 2), ('mspe', 2)):
        with using_method(model, method) as layer:
            assert layer.context == context
    (tokens, grid), image = embed(model, 'prior', (16, 16))
    layer = model.backbone.patch_embed
    kernel = layer.geometry.resize(layer.proj.weight, (4, 4), (16, 16), correlation=0.99)
    around = nn.functional.pad(image, (2, 2, 2, 2), mode='reflect')
    expected = nn.functional.conv2d(around, kernel, layer.proj.bias, stride=4)
    assert grid == (4, 4)
    assert torch.equal(tokens, expected.flatten(2).transpose(1, 2))


def test_prior_is_the_base_kernel_resized_for_the_correlation_of_photographs(model):
    (tokens, grid), image = embed(model, 'prior', (16, 16))
    layer = model.backbone.patch_embed
    kernel = pi_resize(layer.proj.weight, (4, 4), correlation=0.99)
    assert grid == (4, 4)
    assert torch.equal(tokens, nn.functional.conv2d(image, kernel, layer.proj.bias, stride=4).flatten(2).transpose(1, 2))
    layer.downsampling = replace(layer.downsampling, correlation=0.5)    # a layer that has one of its own
    assert not torch.equal(embed(model, 'prior', (16, 16))[0][0], tokens)


def test_flexivit_is_of_white_noise_whatever_the_layer_is_of(model):
    (tokens, _), _ = embed(model, 'flexivit', (16, 16))
    layer = model.backbone.patch_embed
    layer.downsampling = replace(layer.downsampling, correlation=0.9)
    assert torch.equal(embed(model, 'flexivit', (16, 16))[0][0], tokens)


def test_calibrated_is_the_layer_given_for_it(model):
    (tokens, grid), image = embed(model, 'calibrated', (24, 24))
    assert grid == (4, 4)
    assert torch.equal(tokens, calibrated(model)(image)[0])
    assert not torch.allclose(tokens, embed(model, 'flexivit', (24, 24))[0][0])


def test_mspe_is_the_tuned_layer(model):
    (tokens, _), image = embed(model, 'mspe', (16, 16))
    assert torch.equal(tokens, model.backbone.patch_embed(image)[0])
    assert not torch.allclose(tokens, embed(model, 'flexivit', (16, 16))[0][0])


@pytest.mark.parametrize('method', [method for method in METHODS if method != 'finetuned'])
def test_all_methods_are_one_at_the_base_resolution(model, method):
    (tokens, grid), image = embed(model, method, (64, 64))
    assert grid == (4, 4)
    assert torch.equal(tokens, model.backbone.patch_embed.proj(image).flatten(2).transpose(1, 2))


@pytest.mark.parametrize('stock', [True, False])
def test_finetuned_is_the_other_checkpoint_in_its_own_architecture(model, stock):
    """With the stock patch size, or by its own kernels; afterwards the model is what it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetuned = {name: value + 1 for name, value in before.items() if not (stock and '.kernels.' in name)}
    image = torch.randn(1, 3, 32, 32)
    embed = using_method(model, 'finetuned', finetuned=finetuned)
    with embed as layer, torch.no_grad():
        tokens, grid = layer(image)
        assert trained_parameters(model, 'finetuned') == sum(value.numel() for value in finetuned.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other = Model().eval()
    other.load_state_dict(finetuned, strict=True)
    with using_method(other, 'vanilla' if stock else 'mspe') as layer, torch.no_grad():
        expected, expected_grid = layer(image)
    assert grid == expected_grid == ((2, 2) if stock else (4, 4))
    assert torch.equal(tokens, expected)


def test_baselines_have_trained_nothing_and_mspe_its_kernels(model):
    for method, expected in (('vanilla', 0), ('flexivit', 0), ('prior', 0), ('mspe', 8 * 3 * 4 * 4 + 8)):
        with using_method(model, method):
            assert trained_parameters(model, method) == expected


@pytest.mark.parametrize('method', METHODS)
def test_using_method_restores_layer_and_weights_after_an_error(model, method):
    layer, before = model.backbone.patch_embed, {name: value.clone() for name, value in model.state_dict().items()}
    finetuned = {name: value + 1 for name, value in before.items()}
    with pytest.raises(RuntimeError, match='x'), using_method(model, method, calibrated(model), finetuned):
        raise RuntimeError('x')
    assert model.backbone.patch_embed is layer
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_using_method_restores_weights_if_those_of_finetuned_do_not_fit(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    finetuned = {name: value[..., :3] if name.endswith('base.weight') or 'proj' in name else value + 1
                 for name, value in before.items()}
    with pytest.raises(RuntimeError, match='size mismatch'), using_method(model, 'finetuned', finetuned=finetuned):
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
