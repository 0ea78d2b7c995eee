"""Freezing and modes of a model while its patch kernels are tuned."""
from __future__ import annotations

from torch import nn

from ..layers.patch_embed import MultiScalePatchEmbed


def freeze_all_but_kernels(model: nn.Module, patch_embed: MultiScalePatchEmbed) -> None:
    """Make theta, the kernels of ``patch_embed``, the only parameters of ``model`` that require a gradient.

    Raises:
        ValueError: If there is no kernel to tune, or inference would never select one.
    """
    if not patch_embed.kernels:
        raise ValueError(f'nothing to tune: kernel_sizes={patch_embed.kernel_sizes} holds only the frozen pretrained '
                         'kernel; add smaller sizes or set tune_base=True')
    if patch_embed.kernel_policy == 'constant':
        raise ValueError("nothing to tune: kernel_policy='constant' embeds every image by the pretrained kernel; set "
                         "kernel_policy='fixed' or 'isotropic'")
    model.requires_grad_(False)
    patch_embed.kernels.requires_grad_(True)


def tuning_mode(model: nn.Module, patch_embed: MultiScalePatchEmbed) -> None:
    """Put all of ``model`` below its root in eval mode (no dropout, no drop path, BatchNorm statistics untouched).

    The layer itself stays in training mode, so that its kernels are resized anew at every step.
    """
    for child in model.children():
        child.eval()
    patch_embed.train()
    patch_embed.kernels.requires_grad_(True)    # a host's frozen_stages freezes them at every change of mode
