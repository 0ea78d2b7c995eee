"""The MSPE layer with the attributes that timm's models read from their patch embedding."""
from __future__ import annotations

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed


class TimmPatchEmbed(MultiScalePatchEmbed):
    """The MSPE layer with the interface of ``timm.layers.PatchEmbed``; timm is not imported."""

    @property
    def img_size(self) -> tuple[int, int]:
        """The base resolution, (height, width) in pixels."""
        return self.base_resolution

    @property
    def num_patches(self) -> int:
        """Tokens at the base resolution."""
        return self.grid_size[0] * self.grid_size[1]

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Pixels per token at the base resolution."""
        return self.patch_size if as_scalar else (self.patch_size, self.patch_size)

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Token grid of an image of ``img_size`` (height, width)."""
        return self.token_grid(img_size)

    def set_input_size(self, img_size: int | tuple[int, int] | None = None,
                       patch_size: int | tuple[int, int] | None = None) -> None:
        """Change the base resolution, and with it the token grid.

        Raises:
            InputError: For another patch size, which belongs to the pretrained kernel, or a resolution of no whole patches.
        """
        p = self.patch_size
        if patch_size not in (None, p, (p, p)):
            raise InputError(f'the patch size is {p} px, that of the pretrained kernel: set_input_size cannot make it '
                             f'{patch_size}')
        if img_size is not None:
            height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
            if height % p or width % p:
                raise InputError(f'img_size must be whole patches of {p} px, got {height} x {width}')
            self.grid_size = (height // p, width // p)
