"""The stem is the report's equation, and its grid never changes."""
import pytest
import torch
import torch.nn.functional as F
from helpers import noise, randomize
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.layers.stem import ConvStemPatchEmbed


def build(**changes):
    return randomize(ConvStemPatchEmbed(**{**dict(in_channels=3, embed_dims=8, stem_channels=5, map_size=12, patch_size=4),
                                           **changes}).double())


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_tokens_are_the_reports_equation_on_a_grid_that_never_changes(height, width):
    embed, x = build(), noise(2, 3, height, width)
    first, _, second, _, _ = embed.stem
    y = F.relu(F.conv2d(F.relu(F.conv2d(x, first.weight, first.bias, padding=1)), second.weight, second.bias, padding=1))
    # Adaptive pooling: cell i averages the pixels from floor(i h / 12) to ceil((i + 1) h / 12).
    cells = [[y[..., i * height // 12:-(-(i + 1) * height // 12), j * width // 12:-(-(j + 1) * width // 12)].mean((2, 3))
              for j in range(12)] for i in range(12)]
    y = torch.stack([torch.stack(row, -1) for row in cells], -2)
    # Patches: of each, the inner product with the kernel.
    patches = y.unflatten(3, (3, 4)).unflatten(2, (3, 4)).permute(0, 2, 4, 1, 3, 5).flatten(3)
    expected = (patches @ embed.proj.weight.flatten(1).T + embed.proj.bias).flatten(1, 2)
    tokens, grid = embed(x)
    assert grid == (3, 3)
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-10)


def test_the_reports_sizes_give_256_tokens():
    tokens, grid = ConvStemPatchEmbed()(torch.zeros(1, 3, 96, 96))
    assert (tokens.shape, grid) == ((1, 256, 192), (16, 16))


def test_a_map_that_is_no_whole_patches_is_refused():
    with pytest.raises(ValueError, match='map_size must be whole patches of 4, got 63'):
        ConvStemPatchEmbed(map_size=63)
