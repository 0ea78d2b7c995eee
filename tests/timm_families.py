"""The families of timm's plain Vision Transformers that the tests take as a backbone: timm's own models, tiny."""
from __future__ import annotations

from typing import NamedTuple

import timm
import torch
from helpers import randomize
from torch import nn

from mspe_mm.backbones import MSPETimmViT

GRID = (4, 6)
SMALL = dict(embed_dim=32, depth=2, num_heads=2)
WINDOWS = dict(window_size=3, global_attn_indexes=(1, ), neck_chans=16)    # SAM's: a block in windows, and one without


class Family(NamedTuple):
    """A model's name in timm, its patch size, and what makes it small."""

    name: str
    patch: int
    changes: dict

    @property
    def size(self) -> tuple[int, int]:
        """The base resolution in the tests."""
        return GRID[0] * self.patch, GRID[1] * self.patch

    @property
    def kwargs(self) -> dict:
        return {**SMALL, **self.changes}


# The names are those of the documentation.
FAMILIES = {
    'DINOv2': Family('vit_small_patch14_dinov2', 14, {}),
    'DINOv2 with registers': Family('vit_small_patch14_reg4_dinov2', 14, {}),
    'DINOv3': Family('vit_small_patch16_dinov3', 16, {}),
    'SAM': Family('samvit_base_patch16', 16, WINDOWS),
    'EVA-02': Family('eva02_tiny_patch14_224', 14, {}),
    'SigLIP 2': Family('vit_base_patch16_siglip_512', 16, {}),
    'CLIP': Family('vit_base_patch16_clip_224', 16, {}),
    'DeiT III': Family('deit3_small_patch16_224', 16, {}),
    'PE core': Family('vit_pe_core_tiny_patch16_384', 16, {}),
    'PE spatial': Family('vit_pe_spatial_tiny_patch16_512', 16, {}),
}


def config(family: str, **changes) -> dict:
    """``MSPETimmViT`` with a tiny model of a family, as a dict of its arguments."""
    name, _, _ = FAMILIES[family]
    return {**dict(model_name=name, img_size=FAMILIES[family].size, out_indices=(0, 1),
                   model_kwargs=FAMILIES[family].kwargs), **changes}


def stock_vit(family: str, seed: int = 0) -> nn.Module:
    """timm's model, in eval mode, with no weight at a value that hides a mistake."""
    name, _, _ = FAMILIES[family]
    torch.manual_seed(seed)
    model = randomize(timm.create_model(name, img_size=FAMILIES[family].size, **FAMILIES[family].kwargs), seed)
    return model.eval().requires_grad_(False)


def backbone(family: str, seed: int = 0, **changes) -> MSPETimmViT:
    """``MSPETimmViT`` with the weights of :func:`stock_vit`, in eval mode."""
    model = MSPETimmViT(**config(family, **changes))
    own = {name for name in model.vit.state_dict() if '.kernels.' not in name}
    stock = {name: value for name, value in stock_vit(family, seed).state_dict().items() if name in own}
    model.vit.load_state_dict(stock, strict=True)
    return model.eval().requires_grad_(False)
