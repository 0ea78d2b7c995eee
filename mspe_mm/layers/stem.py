"""A convolutional stem before the patches: the token grid is the same at every resolution (RIViT)."""
from __future__ import annotations

from torch import Tensor, nn


class ConvStemPatchEmbed(nn.Module):
    """Two convolutions, adaptive pooling to a map of fixed size, then patches of the map (RIViT, section 3.2).

    ``y = AdaptiveAvgPool2d(ReLU(Conv2d(ReLU(Conv2d(x)))), (64, 64))``, 3 x 3 kernels padded to keep the resolution; the
    patches of ``y`` do not overlap. All of its weights are trained from scratch.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width D of the tokens.
        stem_channels: Channels of both convolutions. The report does not state them.
        map_size: Height and width of the pooled map.
        patch_size: Patch size on the map; a divisor of ``map_size``.

    Raises:
        ValueError: If ``map_size`` is not whole patches.
    """

    def __init__(self, in_channels: int = 3, embed_dims: int = 192, stem_channels: int = 32, map_size: int = 64,
                 patch_size: int = 4) -> None:
        super().__init__()
        if map_size < 1 or patch_size < 1 or map_size % patch_size:
            raise ValueError(f'map_size must be whole patches of {patch_size}, got {map_size}')
        self.grid_size = (map_size // patch_size, ) * 2
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem_channels, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(stem_channels, stem_channels, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(map_size))
        self.proj = nn.Conv2d(stem_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed (B, C, H, W), any H and W from 1, as tokens (B, L, D) on the grid (rows, columns), always the same."""
        return self.proj(self.stem(x)).flatten(2).transpose(1, 2), self.grid_size
