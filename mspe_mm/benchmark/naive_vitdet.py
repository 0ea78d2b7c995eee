"""ViTDet's backbone, a direct implementation of its formulas: the peer if mmdetection's project is not available.

It shares no code with the rest of the package, computes the L x L logits and gathers the relative position tables in every
call. Constructor arguments and parameter names are those of ``ViT`` in mmdetection's ViTDet project.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NaiveAttention(nn.Module):
    """``softmax(q k / sqrt(d) + q R_h[y - y'] + q R_w[x - x']) v`` on (B, H, W, D) (MViTv2 Eq. 4)."""

    def __init__(self, dim: int, heads: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid[0] - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid[1] - 1, dim // heads))

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, dim = x.shape
        q, k, v = self.qkv(x).view(b, h * w, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        q = q.reshape(b, self.heads, h, w, -1)
        by_row = torch.einsum('bnyxd,yjd->bnyxj', q, offsets(self.rel_pos_h, h))
        by_column = torch.einsum('bnyxd,xid->bnyxi', q, offsets(self.rel_pos_w, w))
        bias = by_row[..., :, None] + by_column[..., None, :]
        out = (logits + bias.reshape(logits.shape)).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(b, h, w, dim))


def offsets(table: Tensor, n: int) -> Tensor:
    """``R[i - j]``, (n, n, d), for queries i and keys j along an axis of n tokens."""
    if len(table) != 2 * n - 1:
        table = F.interpolate(table.T[None], size=2 * n - 1, mode='linear')[0].T
    return torch.stack([table[i:i + n].flip(0) for i in range(n)])


class NaiveMlp(nn.Module):

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class NaiveBlock(nn.Module):
    """``x += attention(norm(x)); x += mlp(norm(x))``; attention is global or within windows."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, window: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn = NaiveAttention(dim, heads, (window, window) if window else grid)
        self.mlp = NaiveMlp(dim, int(mlp_ratio * dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + (self.in_windows(self.norm1(x)) if self.window else self.attn(self.norm1(x)))
        return x + self.mlp(self.norm2(x))

    def in_windows(self, x: Tensor) -> Tensor:
        """Attention within windows. The last windows are padded with zeros, which are attended to."""
        b, h, w, dim = x.shape
        s, rows, columns = self.window, math.ceil(h / self.window), math.ceil(w / self.window)
        x = F.pad(x, (0, 0, 0, columns * s - w, 0, rows * s - h))
        x = x.view(b, rows, s, columns, s, dim).permute(0, 1, 3, 2, 4, 5).reshape(-1, s, s, dim)
        x = self.attn(x).view(b, rows, columns, s, s, dim).permute(0, 1, 3, 2, 4, 5).reshape(b, rows * s, columns * s, dim)
        return x[:, :h, :w]


class NaivePatchEmbed(nn.Module):

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class NaiveViTDet(nn.Module):
    """Images (B, 3, H, W) to features (B, D, H / patch, W / patch); H and W are multiples of the patch size."""

    def __init__(self, img_size: int, patch_size: int, embed_dim: int, depth: int, num_heads: int, window_size: int,
                 window_block_indexes: Sequence[int], mlp_ratio: float = 4., pretrain_img_size: int = 224) -> None:
        super().__init__()
        grid = (img_size // patch_size, ) * 2
        self.patch_embed = NaivePatchEmbed(patch_size, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (pretrain_img_size // patch_size)**2, embed_dim))
        self.blocks = nn.ModuleList([
            NaiveBlock(embed_dim, num_heads, mlp_ratio, window_size if i in window_block_indexes else 0, grid)
            for i in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        table = self.pos_embed[:, 1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        x = x + F.interpolate(table, size=x.shape[1:3], mode='bicubic').permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)
