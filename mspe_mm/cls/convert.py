"""The MSPE layer in place of the patch embedding of a timm Vision Transformer."""
from __future__ import annotations

from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..core import MultiScalePatchEmbed


class TimmPatchEmbed(MultiScalePatchEmbed):
    """The layer with timm's interface: tokens on their grid, for a model with ``dynamic_img_size``."""

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, C, H, W) as (B, rows, columns, D)."""
        tokens, grid = super().forward(x)
        return tokens.unflatten(1, grid)


def convert_patch_embed(model: nn.Module, base_resolution: int | tuple[int, int] | None = None, **settings) -> nn.Module:
    """Replace the patch embedding of a built model by the MSPE layer, in place; everything else stays.

    Args:
        model: A timm ``VisionTransformer`` (``vit_*``, ``deit3_*``, ``flexivit_*``).
        base_resolution: Resolution in pixels, one number or (height, width), that the model was trained at and whose token
            grid is kept; by default the model's own image size.
        **settings: Of :class:`~mspe_mm.core.MultiScalePatchEmbed`: ``kernel_sizes``, ``parameterization``, ...

    Returns:
        The model itself. Where the token grid is not the one of its position table, the model resamples the table.

    Raises:
        ValueError: If the model has no patch embedding of a kind that is known here, or the settings contradict it.
    """
    stock = getattr(model, 'patch_embed', None)
    if not isinstance(model, VisionTransformer) or type(stock) is not PatchEmbed:
        raise ValueError(f'the patch embedding of {type(model).__name__} cannot be replaced: it has to be a timm '
                         'VisionTransformer whose patches do not overlap')
    base_resolution = base_resolution or stock.img_size
    if isinstance(base_resolution, int):
        base_resolution = (base_resolution, base_resolution)
    (patch_size, width) = stock.patch_size
    grid = tuple(length // patch_size for length in base_resolution)
    if patch_size != width or any(length % patch_size for length in base_resolution) or grid != tuple(stock.grid_size):
        raise ValueError(f'base_resolution {base_resolution} must be the {stock.grid_size[0]} x {stock.grid_size[1]} square '
                         f'patches of {stock.patch_size} px of {type(model).__name__}: give img_size to the model')
    layer = TimmPatchEmbed(
        stock.proj.in_channels, stock.proj.out_channels, patch_size, grid, bias=stock.proj.bias is not None, norm=stock.norm,
        **settings)
    layer.proj = stock.proj
    layer.reset_kernels()
    model.patch_embed = layer.to(stock.proj.weight)
    model.dynamic_img_size = True    # positions are resampled where the grid is another
    return model
