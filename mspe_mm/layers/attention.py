"""Attention over a token grid, with or without decomposed relative position.

The logit of a query at (y, x) and a key at (y', x') is ``q . k / sqrt(d) + q . rows[y, y'] + q . columns[x, x']``
(MViTv2 Eq. 4, ViTDet). ``'naive'`` computes it as written, and holds the L x L logits. ``'fused'`` hands the same numbers
to PyTorch's ``scaled_dot_product_attention``.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import check_choice
from .cache import shared_constant

ATTENTIONS = ('fused', 'naive')


def attend(q: Tensor, k: Tensor, v: Tensor, relative: tuple[Tensor, Tensor] | None = None,
           attention: str = 'fused', dropout: float = 0.) -> Tensor:
    """Multi-head attention of a token grid to itself.

    Args:
        q: (B, heads, L, d) queries, not scaled; tokens in row-major order.
        k: Keys, likewise.
        v: Values, likewise.
        relative: ``rows`` (H, H, d) and ``columns`` (W, W, d) of :func:`~mspe_mm.layers.position.relative_positions`,
            L = H * W; None for attention without relative position.
        attention: ``'fused'`` or ``'naive'``; the results are equal up to rounding.
        dropout: Probability that the weight of a key is zeroed.

    Returns:
        (B, heads, L, d).

    Raises:
        ValueError: For an unknown ``attention``.
    """
    check_choice('attention', attention, ATTENTIONS)
    terms = None if relative is None else relative_terms(q, *relative)
    if attention == 'naive':
        return _attend_naively(q, k, v, terms, dropout)
    if terms is None:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    # An additive bias is faster on a CPU. Elsewhere it would be an (L x L) tensor for every head in memory.
    return (_attend_with_bias if q.device.type == 'cpu' else _attend_with_codes)(q, k, v, *terms, dropout)


def relative_terms(q: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``q . rows[y, y']`` and ``q . columns[x, x']``.

    Args:
        q: (B, heads, H * W, d) queries, not scaled.
        rows: (H, H, d).
        columns: (W, W, d).

    Returns:
        (B, heads, H * W, H) and (B, heads, H * W, W), in the dtype of ``q``.
    """
    grid = q.unflatten(2, (rows.shape[0], columns.shape[0]))
    by_row = torch.einsum('bnyxd,ykd->bnyxk', grid, rows.to(q.dtype))
    by_column = torch.einsum('bnyxd,xkd->bnyxk', grid, columns.to(q.dtype))
    return by_row.flatten(2, 3), by_column.flatten(2, 3)


def _attend_naively(q: Tensor, k: Tensor, v: Tensor, terms: tuple[Tensor, Tensor] | None, dropout: float) -> Tensor:
    logits = (q * q.shape[-1]**-0.5) @ k.transpose(-2, -1)
    if terms is not None:
        logits = logits + _bias(*terms)
    return F.dropout(logits.softmax(dim=-1), dropout).to(v.dtype) @ v


def _attend_with_bias(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor, dropout: float = 0.) -> Tensor:
    """The relative terms as an additive bias; with many tokens, for one slice of the queries at a time.

    A bias of (slice, L) stays in the processor's cache until it is read: at 64 x 64 tokens it is 15% faster than a bias of
    (L, L) and takes a 32nd of the memory.
    """
    step = 128 if q.shape[2] >= 1024 else q.shape[2]
    outs = [F.scaled_dot_product_attention(queries, k, v, attn_mask=_bias(*terms).to(q.dtype), dropout_p=dropout)
            for queries, *terms in zip(*(tensor.split(step, dim=2) for tensor in (q, by_row, by_column)))]
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)


def _bias(by_row: Tensor, by_column: Tensor) -> Tensor:
    """(B, heads, L, L): ``by_row[..., y'] + by_column[..., x']`` for the key at (y', x')."""
    return (by_row.contiguous()[..., :, None] + by_column.contiguous()[..., None, :]).flatten(3)


def _attend_with_codes(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor, dropout: float = 0.) -> Tensor:
    """Append the relative terms to the channels of q, and the one-hot row and column of each token to those of k.

    Then q . k is the whole logit, and no (L x L) tensor exists outside the kernel.
    """
    codes = _position_codes(by_row.shape[-1], by_column.shape[-1], k.device, k.dtype)
    filling = by_row.new_zeros(1).expand(*q.shape[:3], codes.shape[-1] - by_row.shape[-1] - by_column.shape[-1])
    q = torch.cat([q * q.shape[-1]**-0.5, by_row.to(q.dtype), by_column.to(q.dtype), filling.to(q.dtype)], dim=-1)
    k = torch.cat([k, codes.expand(*k.shape[:2], -1, -1)], dim=-1)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)


@shared_constant(maxsize=32)
def _position_codes(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One-hot row, then one-hot column of every token, (rows * columns, C).

    C is padded with zeros to a multiple of 8, as the half-precision kernels require of the head dimension.
    """
    row = torch.eye(rows).repeat_interleave(columns, dim=0)
    column = torch.eye(columns).repeat(rows, 1)
    codes = F.pad(torch.cat([row, column], dim=1), (0, -(rows + columns) % 8))
    return codes.to(device, dtype)
