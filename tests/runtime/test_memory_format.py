"""Heads that convolve channels-last give the same numbers."""
import pytest
import torch
from helpers import noise
from torch import nn

from mspe_mm.runtime.memory_format import use_channels_last


class Segmentor(nn.Module):
    """A backbone that returns maps, or a map and a token, and a head of two convolutions."""

    def __init__(self, with_token):
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 4, stride=4)
        self.decode_head = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))
        forward = self.backbone.forward
        self.backbone.forward = lambda x: [(forward(x), x.mean((2, 3)))] if with_token else (forward(x), )

    def forward(self, x):
        (features, ) = self.backbone(x)
        return self.decode_head(features[0] if isinstance(features, tuple) else features)


@pytest.mark.parametrize('with_token', [False, True])
def test_a_head_gets_and_gives_maps_channels_last(with_token):
    model, images = Segmentor(with_token), noise(2, 3, 32, 24, dtype=torch.float32)
    expected = model(images)
    assert expected.is_contiguous()
    use_channels_last(model)
    actual = model(images)
    assert actual.is_contiguous(memory_format=torch.channels_last)
    assert model.decode_head[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual, expected)
    assert model.backbone.weight.is_contiguous()    # the patch embedding stays bit for bit what it is
