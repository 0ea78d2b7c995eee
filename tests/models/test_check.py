"""Conversion refuses models that take images of one size only."""
from __future__ import annotations

import pytest
import timm
import torch
from model_zoo import MODELS, base_resolution, layer_in, outputs, stock_model
from timm.layers import PatchEmbed
from torch import nn

from mspe_mm import InputError, convert_patch_embed
from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.models import check

TINY = dict(embed_dim=32, depth=1, num_heads=2, num_classes=5)


class Counting(nn.Module):
    """Maps from tokens, on a grid that is counted from the image's pixels."""

    def __init__(self):
        super().__init__()
        self.embedding = PatchEmbed(None, 16, 3, 8)
        self.mixer = nn.Linear(8, 8)

    def forward(self, x):
        rows, columns = x.shape[-2] // 16, x.shape[-1] // 16
        return self.mixer(self.embedding(x)).transpose(1, 2).reshape(len(x), -1, rows, columns)


class Strict(Counting):
    """The same, with the channels written down."""

    def __init__(self):
        super().__init__()
        self.head = Maps()

    def forward(self, x):
        return self.head(self.embedding(x), x.shape[-2:])


class Maps(nn.Module):

    def forward(self, tokens, size):
        return tokens.transpose(1, 2).reshape(len(tokens), 8, size[0] // 16, size[1] // 16)


class Paired(Counting):
    """Takes two images."""

    def forward(self, x, y):
        return super().forward(x) - super().forward(y)


@pytest.mark.parametrize(('host', 'sentence'), [
    (Counting, r'Counting works at one image size only.*32 x 48 px have the token grid of 64 x 96 px.*it returns '
               r'\(1, 32, 2, 3\) there and \(1, 8, 4, 6\) at the base resolution.*img_size=\(64, 96\).*check=False'),
    (Strict, r'Strict\.head\.forward works at one image size only.*RuntimeError: .*dynamic_img_size=True')])
def test_a_host_that_counts_pixels_is_refused_by_the_module_and_left_as_it_was(host, sentence):
    model = host()
    stock = model.embedding
    with pytest.raises(InputError, match=sentence):
        convert_patch_embed(model, (64, 96))
    assert model.embedding is stock
    convert_patch_embed(model, (64, 96), check=False)
    assert isinstance(model.embedding, MultiScalePatchEmbed)


def test_a_position_table_for_another_size_is_refused_with_the_size_to_build_for():
    model = timm.create_model('vit_tiny_patch16_224', dynamic_img_size=True, img_size=64, **TINY)
    with pytest.raises(InputError, match=r'VisionTransformer\._pos_embed works.*img_size=\(128, 128\)'):
        convert_patch_embed(model, 128)
    convert_patch_embed(timm.create_model('vit_tiny_patch16_224', img_size=128, **TINY), 128)


@pytest.mark.parametrize('host', [Paired, Counting])
def test_models_of_two_inputs_and_the_stock_embedding_are_not_checked(host):
    assert convert_patch_embed(host(), 64, **({} if host is Paired else dict(kernel_policy='constant'))) is not None


@pytest.mark.parametrize('name', MODELS)
def test_every_host_is_checked_without_a_trace(name, monkeypatch):
    """It does run on the meta device, at both sizes, and the model does not change."""
    seen, shapes = [], check._shapes

    def watched(model, channels, size):
        seen.append((size, shapes(model, channels, size)))
        return seen[-1][1]

    monkeypatch.setattr(check, '_shapes', watched)
    model = stock_model(name)
    x = torch.randn(1, 3, *base_resolution(name))
    expected = outputs(model, x)
    convert_patch_embed(model, base_resolution(name))
    assert [size for size, _ in seen] == [base_resolution(name), tuple(length // 2 for length in base_resolution(name))]
    assert seen[0][1] == seen[1][1] != []
    assert all(torch.equal(a, b) for a, b in zip(outputs(model, x), expected))
    assert len(layer_in(model)._cache) == 0


def test_rotary_positions_alone_state_no_resolution():
    """timm builds DINOv3 for 256 px by default; images of 512 px would silently get 16 x 16 tokens."""
    model = timm.create_model('vit_small_patch16_dinov3', **TINY)
    with pytest.raises(InputError, match=r'Eva does not say at which resolution.*give base_resolution='):
        convert_patch_embed(model)
    assert convert_patch_embed(model, 512).grid_size == (32, 32)
    maps = model.eval().forward_intermediates(torch.rand(1, 3, 128, 128), norm=True, intermediates_only=True)
    assert [tuple(features.shape) for features in maps] == [(1, 32, 32, 32)]
