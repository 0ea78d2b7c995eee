"""ViTDet's plain Vision Transformer with the MSPE layer as its patch embedding."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import check_choice
from ..layers.attention import ATTENTIONS, attend
from ..layers.cache import DerivedTensors
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.position import relative_positions, resample_positions
from ..layers.windows import from_windows, to_windows
from ..models.settings import split_layer_settings
from .pretrained import load_pretrained


class Attention(nn.Module):
    """Multi-head attention of a token grid (B, H, W, C) to itself.

    Args:
        dim: Channels C.
        num_heads: Heads.
        qkv_bias: Whether queries, keys and values have a bias.
        table_grid: (rows, columns) of the relative position tables; None for none.
        rel_pos_zero_init: Whether the tables start at zero.
        attention: ``'fused'`` or ``'naive'``.
    """

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, table_grid: tuple[int, int] | None,
                 rel_pos_zero_init: bool, attention: str) -> None:
        super().__init__()
        check_choice('attention', attention, ATTENTIONS)
        self.num_heads, self.attention = num_heads, attention
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = table_grid is not None
        if self.use_rel_pos:
            head_dim = dim // num_heads
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * table_grid[0] - 1, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * table_grid[1] - 1, head_dim))
            if not rel_pos_zero_init:
                nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
                nn.init.trunc_normal_(self.rel_pos_w, std=0.02)
        self._tables = DerivedTensors()

    def forward(self, x: Tensor) -> Tensor:
        grid = tuple(x.shape[1:3])
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).flatten(1, 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = attend(q, k, v, self.relative(grid) if self.use_rel_pos else None, self.attention)
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, grid))

    def relative(self, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The tables gathered for a grid of tokens: (H, H, d) and (W, W, d)."""
        rows, columns = self.rel_pos_h, self.rel_pos_w
        return self._tables.get(grid, [rows, columns],
                                lambda: (relative_positions(rows, grid[0]), relative_positions(columns, grid[1])))

    def train(self, mode: bool = True) -> Attention:
        self._tables.clear()
        return super().train(mode)


class Mlp(nn.Module):
    """Two linear layers and an activation."""

    def __init__(self, dim: int, hidden_dim: int, act_cfg: dict) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm Transformer block on a token grid (B, H, W, C); ``window_size`` 0 means global attention."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float, norm_cfg: dict, act_cfg: dict, window_size: int,
                 **attention) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, dim)[1]
        self.attn = Attention(dim, **attention)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = build_norm_layer(norm_cfg, dim)[1]
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_cfg)
        self.window_size = window_size

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(x)
        if self.window_size:
            # The padding of the last windows is not masked, because the published weights were trained with it.
            out = self.attn(to_windows(out, self.window_size))
            out = from_windows(out, tuple(x.shape[1:3]))
        else:
            out = self.attn(out)
        x = x + self.drop_path(out)
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class MSPEViTDet(BaseModule):
    """ViTDet's backbone for images of any resolution.

    Config keys up to ``init_cfg`` and parameter names are those of ``ViT`` in mmdetection's ViTDet project, whose
    checkpoints load with ``strict=True``; ``patch_embed.kernels`` is added. With ``kernel_sizes=(patch_size, )`` and
    ``kernel_policy='constant'`` it is that backbone.

    Args:
        img_size: Base resolution in pixels, one number or (height, width).
        patch_size: Patch size at the base resolution, in pixels.
        in_chans: Channels of the image.
        embed_dim: Width D.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over D.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_path_rate: Drop-path rate of the last block, rising linearly from 0 at the first.
        norm_cfg: Norm layer of the blocks.
        act_cfg: Activation of the MLP.
        use_abs_pos: Whether there is an absolute position table.
        use_rel_pos: Whether attention has decomposed relative positions.
        rel_pos_zero_init: Whether these start at zero.
        window_size: Side of the attention windows in tokens.
        window_block_indexes: Blocks that attend within windows; the others attend globally.
        pretrain_img_size: Resolution in pixels that the absolute table is for.
        pretrain_use_cls_token: Whether the table still has the position of a class token.
        init_cfg: The host's; ``dict(type='Pretrained', checkpoint=...)`` also takes MAE's files.
        attention: ``'fused'`` or ``'naive'``: the same numbers up to rounding.
        with_cp: Recompute the blocks in the backward pass instead of keeping their activations.
        **layer: ``kernel_sizes``, ``context``, ``kernel_policy``, ``parameterization``, ``tune_base`` and ``downsampling``
            of :class:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed`.

    Raises:
        InputError: For an unknown key, with the nearest valid name.
        ValueError: For settings that contradict each other; the message names them.
    """

    def __init__(self,
                 img_size: int | tuple[int, int] = 1024,
                 patch_size: int = 16,
                 in_chans: int = 3,
                 embed_dim: int = 768,
                 depth: int = 12,
                 num_heads: int = 12,
                 mlp_ratio: float = 4.0,
                 qkv_bias: bool = True,
                 drop_path_rate: float = 0.0,
                 norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
                 act_cfg: dict = dict(type='GELU'),  # noqa: B006
                 use_abs_pos: bool = True,
                 use_rel_pos: bool = False,
                 rel_pos_zero_init: bool = True,
                 window_size: int = 0,
                 window_block_indexes: Sequence[int] = (0, 1, 3, 4, 6, 7, 9, 10),
                 pretrain_img_size: int = 224,
                 pretrain_use_cls_token: bool = True,
                 init_cfg: dict | list[dict] | None = None,
                 attention: str = 'fused',
                 with_cp: bool = False,
                 **layer: Any) -> None:
        super().__init__(init_cfg)
        layer, _ = split_layer_settings(layer, type(self))
        img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if any(length % patch_size for length in img_size):
            raise ValueError(f'img_size must be whole patches of {patch_size} px, got {img_size}')
        if embed_dim % num_heads:
            raise ValueError(f'embed_dim must divide into num_heads={num_heads}, got {embed_dim}')
        grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.extra_tokens, self.with_cp = int(pretrain_use_cls_token), with_cp
        self.patch_embed = MultiScalePatchEmbed(
            in_channels=in_chans,
            embed_dims=embed_dim,
            patch_size=patch_size,
            grid_size=grid_size,
            **layer)
        self.pos_embed = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size)**2 + self.extra_tokens
            self.pos_embed = nn.Parameter(torch.empty(1, positions, embed_dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        windows = [window_size if i in window_block_indexes else 0 for i in range(depth)]
        self.blocks = nn.ModuleList([
            Block(
                embed_dim,
                mlp_ratio,
                drop_path_rate * i / max(1, depth - 1),
                norm_cfg,
                act_cfg,
                window,
                num_heads=num_heads,
                qkv_bias=qkv_bias,
                table_grid=((window, window) if window else grid_size) if use_rel_pos else None,
                rel_pos_zero_init=rel_pos_zero_init,
                attention=attention) for i, window in enumerate(windows)
        ])
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._positions = DerivedTensors()

    def init_weights(self) -> None:
        """Random weights, or those of ``init_cfg``; the patch kernels are reset to the pretrained kernel."""
        if isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained':
            load_pretrained(self, self.init_cfg['checkpoint'], self.init_cfg.get('prefix'))
            self._is_init = True
        else:
            super().init_weights()
            self.patch_embed.reset_kernels()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Features of a batch of images (B, C, H, W): one map (B, D, rows, columns), rows x columns the token grid."""
        tokens, grid = self.patch_embed(x)
        x = tokens.unflatten(1, grid).contiguous()    # otherwise every block would copy them to this layout
        if self.pos_embed is not None:
            x = x + self.positions(grid)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.with_cp and x.requires_grad else block(x)
        # Contiguous, as hosts' backbones return it: mmcv's RoIAlign reads other layouts wrongly, without a word.
        return (x.permute(0, 3, 1, 2).contiguous(), )

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The absolute table on a grid of tokens, (1, rows, columns, D)."""
        return self._positions.get(grid, [self.pos_embed],
                                   lambda: resample_positions(self.pos_embed, grid, extra_tokens=self.extra_tokens))

    def train(self, mode: bool = True) -> MSPEViTDet:
        self._positions.clear()
        return super().train(mode)
