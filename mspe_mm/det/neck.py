"""ViTDet's simple feature pyramid: every level from the one map of a plain Vision Transformer."""
from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MSPELN2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W), under the parameter names of ``LN2d``.

    Args:
        num_channels: C.
        eps: Added to the variance.
    """

    _abbr_ = 'norm_layer'    # the name that mmcv's ConvModule gave it in published checkpoints

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        norm = nn.LayerNorm(num_channels, eps=eps)
        self.weight, self.bias, self.eps = norm.weight, norm.bias, eps

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2).contiguous()    # for mmcv's RoIAlign, see MSPEViTDet.forward


@MODELS.register_module()
class MSPESimpleFPN(BaseModule):
    """Strides 4, 8, 16, 32 from the map of stride 16, and more by subsampling (ViTDet, section 3).

    Config keys and parameter names are those of ``SimpleFPN`` in mmdetection's ViTDet project.

    Args:
        backbone_channel: Channels D of the map.
        in_channels: Channels of the four levels before they are projected: D / 4, D / 2, D, D.
        out_channels: Channels of every level.
        num_outs: Number of levels.
        conv_cfg: Convolutions, as in mmcv's ``ConvModule``.
        norm_cfg: Norm layer.
        act_cfg: Activation after each convolution; None for none.
        init_cfg: The host's.
    """

    def __init__(self,
                 backbone_channel: int,
                 in_channels: Sequence[int],
                 out_channels: int,
                 num_outs: int,
                 conv_cfg: dict | None = None,
                 norm_cfg: dict | None = None,
                 act_cfg: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        dim = backbone_channel
        if tuple(in_channels) != (dim // 4, dim // 2, dim, dim):
            raise ValueError(f'in_channels must be {[dim // 4, dim // 2, dim, dim]} for backbone_channel={dim}, got '
                             f'{list(in_channels)}')
        if num_outs < len(in_channels):
            raise ValueError(f'num_outs must be at least {len(in_channels)}, got {num_outs}')
        self.num_outs = num_outs
        norm = [build_norm_layer(norm_cfg, dim // 2)[1]] if norm_cfg else []
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 2, 2, stride=2), *norm, nn.GELU(),
            nn.ConvTranspose2d(dim // 2, dim // 4, 2, stride=2))
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(dim, dim // 2, 2, stride=2))
        self.fpn3 = nn.Sequential(nn.Identity())
        self.fpn4 = nn.Sequential(nn.MaxPool2d(kernel_size=2, stride=2))
        conv = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg, inplace=False)
        self.lateral_convs = nn.ModuleList([ConvModule(channels, out_channels, 1, **conv) for channels in in_channels])
        self.fpn_convs = nn.ModuleList([ConvModule(out_channels, out_channels, 3, padding=1, **conv) for _ in in_channels])

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``num_outs`` maps (B, out_channels, ., .) from the last map (B, D, rows, columns) of a backbone."""
        x = x if isinstance(x, Tensor) else x[-1]
        scales = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        outs = [fpn(lateral(scale(x))) for scale, lateral, fpn in zip(scales, self.lateral_convs, self.fpn_convs)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
