"""mmseg's Vision Transformer with the MSPE layer in place of its patch embedding."""
from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmseg.models.backbones import VisionTransformer
from mmseg.registry import MODELS
from torch import Tensor

from ..errors import check_choice
from ..layers.attention import ATTENTIONS
from ..layers.host_layout import HostLayout
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.position import POSITIONS, sinusoids
from ..models.settings import split_layer_settings
from .self_attention import FusedSelfAttention, RelativeSelfAttention, token_grid


@MODELS.register_module()
class MSPEViT(VisionTransformer):
    """A drop-in for mmseg's ``VisionTransformer`` that takes images of any resolution.

    All config keys and parameter names are the host's; ``patch_embed.kernels`` is added. A stock checkpoint loads with
    ``strict=True``. ``img_size`` is the base resolution: there the outputs are the host's, bit for bit with
    ``attention='naive'``.

    Args:
        attention: ``'naive'`` is the host's; ``'fused'`` computes the same numbers up to rounding, faster and without
            holding the attention weights.
        position: ``'learned'``: the host's table. ``'sinusoidal'``: sinusoids of the token's index in row-major order, none
            for the class token. ``'relative'``: relative positions in the attention
            (:class:`~mspe_mm.seg.self_attention.RelativeSelfAttention`). They need ``with_cls_token=False``, because a class
            token has no position, and ``with_cp=False``. Models with the last two are trained from scratch and have no
            ``pos_embed``.
        patch_pad: The host's; ``'corner'``, ``'same'``, or 0 for none.
        **kwargs: ``kernel_sizes``, ``context``, ``kernel_policy``, ``parameterization``, ``tune_base`` and ``downsampling``
            of :class:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed`. Everything else is the host's (``img_size``,
            ``patch_size``, ``embed_dims``, ``out_indices``, ...).

    Raises:
        InputError: For an unknown key, with the nearest valid name.
        ValueError: For settings that contradict each other; the message names them.
    """

    def __init__(self, *args, attention: str = 'fused', position: str = 'learned', patch_pad: str | int | None = 'corner',
                 **kwargs: Any) -> None:
        layer_settings, kwargs = split_layer_settings(kwargs, type(self))
        super().__init__(*args, patch_pad=patch_pad, **kwargs)
        check_choice('attention', attention, ATTENTIONS)
        if attention == 'fused':
            for layer in self.layers:
                layer.attn = FusedSelfAttention(layer.attn)
        if patch_pad not in ('corner', 'same', 0, None):
            raise ValueError(f"patch_pad must be 'corner', 'same' or 0 for patches that do not overlap, got {patch_pad!r}")
        stock = self.patch_embed
        patch_size = self.patch_size
        if stock.projection.kernel_size != (patch_size, patch_size):
            raise ValueError(f'patch_size must be one number, got {patch_size}')
        if self.img_size[0] % patch_size or self.img_size[1] % patch_size:
            raise ValueError(f'img_size, the base resolution, must be whole patches of {patch_size} px, got {self.img_size}')
        self.patch_embed = MultiScalePatchEmbed(
            in_channels=stock.projection.in_channels,
            embed_dims=stock.projection.out_channels,
            patch_size=patch_size,
            grid_size=(self.img_size[0] // patch_size, self.img_size[1] // patch_size),
            bias=stock.projection.bias is not None,
            norm=stock.norm,
            host=HostLayout('projection', patch_pad or None),
            **layer_settings)
        self.position = position
        if position != 'learned':
            self._replace_positions(attention)
        self._freeze()    # the host's frozen_exclude, now that the kernels exist

    def _replace_positions(self, attention: str) -> None:
        check_choice('position', self.position, POSITIONS)
        table = self.pos_embed.detach()
        del self.pos_embed
        self.register_buffer('pos_embed', table, persistent=False)    # the host initialises and passes it, without adding it
        if self.position == 'relative':
            if self.with_cls_token or any(layer.with_cp for layer in self.layers):
                raise ValueError("position='relative' needs the grid position of every token, which a class token and "
                                 'recomputed layers do not have: set with_cls_token=False and with_cp=False')
            for layer in self.layers:
                layer.attn = RelativeSelfAttention(layer.attn, self.patch_embed.grid_size, attention)

    def init_weights(self) -> None:
        super().init_weights()
        if not (isinstance(self.init_cfg, dict) and self.init_cfg['type'] in ('Pretrained', 'Pretrained_Part')):
            self.patch_embed.reset_kernels()    # the host has just drawn a new base kernel

    def _pos_embeding(self, patched_img: Tensor, hw_shape: tuple[int, int], pos_embed: Tensor) -> Tensor:
        if self.position == 'relative':
            return self.drop_after_pos(patched_img)
        if self.position == 'sinusoidal':
            table = sinusoids(hw_shape[0] * hw_shape[1], patched_img.shape[2], patched_img.device, patched_img.dtype)
            return self.drop_after_pos(patched_img + F.pad(table, (0, 0, 1, 0)))
        # The host compares numbers of tokens only, so it would use a 15 x 20 table unchanged for 20 x 15 tokens.
        if tuple(hw_shape) != self.patch_embed.grid_size:
            pos_embed = self.resize_pos_embed(pos_embed, hw_shape, self.patch_embed.grid_size, self.interpolate_mode)
        return self.drop_after_pos(patched_img + pos_embed)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The host's, of images (B, C, H, W)."""
        if self.position != 'relative':
            return super().forward(inputs)
        with token_grid.set(self.patch_embed.token_grid(tuple(inputs.shape[-2:]))):
            return super().forward(inputs)

    def train(self, mode: bool = True) -> MSPEViT:
        super().train(mode)
        return self    # the host's returns None
