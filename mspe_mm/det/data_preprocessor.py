"""mmdet's data preprocessor that puts images of any size on a canvas of the reference frame's shape."""
from __future__ import annotations

from collections.abc import Sequence

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from torch import Tensor

from .frame import canvas_size


@MODELS.register_module()
class MSPEDetDataPreprocessor(DetDataPreprocessor):
    """``DetDataPreprocessor`` that pads to whole patches of the base token grid.

    An image keeps its size and its aspect ratio. The canvas is the smallest with ``k`` pixels for every token that holds
    all images of a batch: an image whose long side is 512 px goes on 512 x 512 for a 1024 x 1024 base with 16 px patches.
    In training the canvas is at least the base resolution, where the annotations are. It is filled before normalisation,
    as the ``Pad`` of mmdetection's ViTDet pipelines does; after such a ``Pad`` there is nothing to fill.

    Args:
        img_size: Base resolution in pixels, one number or (height, width): the backbone's.
        patch_size: Patch size at the base resolution, in pixels: the backbone's.
        canvas_value: Pixel value of the canvas, one number or one for each channel of the loaded image.
        **kwargs: The host's.

    Attributes:
        stock_patches: Whether the patches of all images are ``patch_size``, as in the stock detector: the canvas then has
            whole ones.
    """

    def __init__(self,
                 *,
                 img_size: int | tuple[int, int],
                 patch_size: int = 16,
                 canvas_value: float | Sequence[float] = 114,
                 **kwargs) -> None:
        super().__init__(**kwargs)
        img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.grid_size = (img_size[0] // patch_size, img_size[1] // patch_size)
        self.patch_size, self.canvas_value = patch_size, canvas_value
        self.stock_patches = False

    @property
    def base_resolution(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.grid_size[0] * self.patch_size, self.grid_size[1] * self.patch_size

    def forward(self, data: dict, training: bool = False) -> dict:
        images = list(data['inputs'])
        size = self.canvas_size([image.shape[-2:] for image in images], training)
        return super().forward({**data, 'inputs': [self.on_canvas(image, size) for image in images]}, training)

    def canvas_size(self, image_sizes: Sequence[tuple[int, int]], training: bool = False) -> tuple[int, int]:
        """(height, width) in pixels of the canvas of a batch of images of these sizes."""
        return canvas_size(image_sizes, self.grid_size, self.patch_size if training else 1,
                           self.patch_size if self.stock_patches else None)

    def on_canvas(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Put an image (C, H, W) into the top left corner of a canvas of ``size`` (height, width)."""
        height, width = image.shape[-2:]
        if (height, width) == tuple(size):
            return image
        value = image.new_tensor(self.canvas_value).reshape(-1, 1, 1)
        canvas = value.expand(image.shape[0], *size).clone()
        canvas[:, :height, :width] = image
        return canvas
