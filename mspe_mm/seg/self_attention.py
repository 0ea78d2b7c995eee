"""mmcv's multi-head self-attention with PyTorch's fused kernels."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import MultiheadAttention
from torch import Tensor, nn

from ..layers.attention import attend
from ..layers.call_scope import CallScope
from ..layers.position import clipped_relative_positions

token_grid: CallScope[tuple[int, int] | None] = CallScope(None)
"""(rows, columns) of the tokens of the current call; None for the grid that the attention was built for."""


class FusedSelfAttention(nn.Module):
    """Replaces an mmcv ``MultiheadAttention`` that is used as self-attention. Its children keep their names.

    mmcv requests the attention weights from ``nn.MultiheadAttention`` and discards them. Requesting the weights disables the
    fused kernel, and (heads, L, L) weights are held in memory.

    Args:
        stock: The module that is replaced.
    """

    attention = 'fused'

    def __init__(self, stock: MultiheadAttention | FusedSelfAttention) -> None:
        super().__init__()
        self.batch_first = stock.batch_first
        self.attn, self.proj_drop, self.dropout_layer = stock.attn, stock.proj_drop, stock.dropout_layer

    def forward(self, query: Tensor, identity: Tensor | None = None) -> Tensor:
        """``identity + attention(query)``.

        Args:
            query: (B, L, D) tokens, (L, B, D) without ``batch_first``.
            identity: What the result is added to; ``query`` by default.
        """
        mha = self.attn
        tokens = query if self.batch_first else query.transpose(0, 1)
        qkv = F.linear(tokens, mha.in_proj_weight, mha.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, mha.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out = attend(q, k, v, self.relative(), self.attention, mha.dropout if mha.training else 0.)
        out = F.linear(out.transpose(1, 2).flatten(2), mha.out_proj.weight, mha.out_proj.bias)
        out = self.dropout_layer(self.proj_drop(out if self.batch_first else out.transpose(0, 1)))
        return (query if identity is None else identity) + out

    def relative(self) -> tuple[Tensor, Tensor] | None:
        """The relative positions for :func:`~mspe_mm.layers.attention.attend`; None for none."""
        return None


class RelativeSelfAttention(FusedSelfAttention):
    """``softmax((Q K^T + Q R^T) / sqrt(d)) V`` (RIViT, section 3.3.3): relative positions beside the host's parameters.

    R has a vector for each pair of tokens, as in :class:`mspe_mm.cls.rivit.RelativeAttention`.

    Args:
        stock: The module that is replaced.
        grid: (rows, columns) of tokens; larger offsets are clipped to those of this grid. Calls on another grid set
            :data:`token_grid`.
        attention: ``'fused'`` or ``'naive'``.
    """

    def __init__(self, stock: MultiheadAttention | FusedSelfAttention, grid: tuple[int, int], attention: str) -> None:
        super().__init__(stock)
        self.grid, self.attention = grid, attention
        self.rel_pos_rows, self.rel_pos_columns = (
            nn.Parameter(nn.init.trunc_normal_(torch.empty(2 * length - 1, stock.attn.head_dim), std=0.02))
            for length in grid)

    def relative(self) -> tuple[Tensor, Tensor]:
        scale = self.attn.head_dim**-0.5    # attend scales Q K^T alone
        return tuple(clipped_relative_positions(table * scale, length)
                     for table, length in zip((self.rel_pos_rows, self.rel_pos_columns), token_grid.value or self.grid))
