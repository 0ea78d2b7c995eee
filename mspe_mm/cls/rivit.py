"""RIViT: a small ViT with a convolutional stem or plain patches, and learned, sinusoidal or relative positions."""
from __future__ import annotations

import torch
from timm.layers import LayerNorm, trunc_normal_
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..errors import check_choice
from ..layers.attention import attend
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.position import POSITIONS, clipped_relative_positions, resample_positions, sinusoids
from ..layers.stem import ConvStemPatchEmbed

EMBEDDINGS = ('patch', 'conv_stem')


class RelativeAttention(nn.Module):
    """``softmax((Q K^T + S_rel) / sqrt(d)) V`` with ``S_rel = Q R^T`` (RIViT, section 3.3.3).

    R has a vector for each pair of tokens: the sum of a vector for the offset of their rows and one for the offset of their
    columns. Both offsets are clipped (Shaw et al.). All heads share R.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads.
        grid: (rows, columns) of tokens; larger offsets are clipped to those of this grid.
    """

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_rows, self.rel_pos_columns = (
            nn.Parameter(trunc_normal_(torch.empty(2 * length - 1, dim // num_heads), std=0.02)) for length in grid)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend (B, L, D), L = rows * columns of ``grid``, to itself."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scale = q.shape[-1]**-0.5    # attend scales Q K^T alone
        rows = clipped_relative_positions(self.rel_pos_rows * scale, grid[0])
        columns = clipped_relative_positions(self.rel_pos_columns * scale, grid[1])
        return self.proj(attend(q, k, v, (rows, columns)).transpose(1, 2).flatten(2))


class RelativeBlock(Block):
    """timm's block with :class:`RelativeAttention`."""

    def __init__(self, dim: int, num_heads: int, grid: tuple[int, int], **kwargs) -> None:
        super().__init__(dim, num_heads, **kwargs)
        self.attn = RelativeAttention(dim, num_heads, grid)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), grid)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class RIViT(nn.Module):
    """Patches or stem, positions, timm's blocks, mean of the tokens, linear head.

    Args:
        img_size: Largest resolution of training, in pixels; with plain patches also that of the learned table.
        patch_size: Of the image, or of the stem's map.
        in_chans: Channels of the image.
        num_classes: Outputs of the head.
        embed_dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Number of heads.
        mlp_ratio: Hidden width of the blocks' perceptrons over ``embed_dim``.
        drop_path_rate: Stochastic depth of the last block; linearly less before.
        embedding: ``'patch'`` or ``'conv_stem'``.
        position: ``'learned'``: a table, bicubically resampled to other grids. ``'sinusoidal'``: sinusoids of the token's
            index in row-major order. ``'relative'``: relative positions in the attention.
        stem_channels, map_size: Of :class:`~mspe_mm.layers.stem.ConvStemPatchEmbed`.

    Raises:
        ValueError: For an unknown embedding or position.
    """

    def __init__(self, img_size: int = 160, patch_size: int = 4, in_chans: int = 3, num_classes: int = 10,
                 embed_dim: int = 192, depth: int = 12, num_heads: int = 3, mlp_ratio: float = 4.,
                 drop_path_rate: float = 0., embedding: str = 'conv_stem', position: str = 'relative',
                 stem_channels: int = 32, map_size: int = 64) -> None:
        super().__init__()
        for name, value, choices in (('embedding', embedding, EMBEDDINGS), ('position', position, POSITIONS)):
            check_choice(name, value, choices)
        self.num_classes, self.position = num_classes, position
        if embedding == 'conv_stem':
            self.patch_embed = ConvStemPatchEmbed(in_chans, embed_dim, stem_channels, map_size, patch_size)
        else:
            self.patch_embed = MultiScalePatchEmbed(
                in_chans, embed_dim, patch_size, img_size // patch_size, (patch_size, ), kernel_policy='constant')
        grid = self.patch_embed.grid_size
        if position == 'learned':
            self.pos_embed = nn.Parameter(trunc_normal_(torch.empty(1, grid[0] * grid[1], embed_dim), std=0.02))
        relative = position == 'relative'
        self.blocks = nn.ModuleList([
            (RelativeBlock if relative else Block)(
                embed_dim, num_heads, mlp_ratio=mlp_ratio, qkv_bias=True, drop_path=drop_path_rate * i / max(1, depth - 1),
                **(dict(grid=grid) if relative else {})) for i in range(depth)])
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        self.apply(_init_linear)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W)."""
        x, grid = self.patch_embed(x)
        if self.position == 'learned':
            x = x + resample_positions(self.pos_embed, grid, self.patch_embed.grid_size).flatten(1, 2)
        elif self.position == 'sinusoidal':
            x = x + sinusoids(*x.shape[1:], x.device, x.dtype)
        for block in self.blocks:
            x = block(x, grid) if self.position == 'relative' else block(x)
        return self.head(self.norm(x).mean(dim=1))


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


default_cfgs = generate_default_cfgs({
    'rivit_tiny_patch4_160': dict(input_size=(3, 160, 160), num_classes=10, crop_pct=1.0, interpolation='bicubic',
                                  mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), classifier='head')
})


@register_model
def rivit_tiny_patch4_160(pretrained: bool = False, **kwargs) -> RIViT:
    """A RIViT of ViT-Ti's width and depth. The report does not state the width and depth of its models."""
    return build_model_with_cfg(RIViT, 'rivit_tiny_patch4_160', pretrained, **kwargs)
