"""mmseg's encoder-decoder that tunes its patch embedding for many resolutions."""
from __future__ import annotations

from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor

from ..core import MultiScalePatchEmbed, freeze_all_but_kernels, tuning_mode
from ..core.budget import build_objective, trains_kernels_alone
from ..errors import InputError


@MODELS.register_module()
class MSPEEncoderDecoder(EncoderDecoder):
    """``EncoderDecoder`` plus the freezing and the multi-resolution objective of MSPE.

    Args:
        tuning: ``dict(base_weight=..., sampling=..., aspect_jitter=...)`` of
            :class:`~mspe_mm.core.MultiResolutionObjective`; ``dict()`` takes the defaults. Or ``dict(token_grids=...,
            freeze=...)`` of :class:`~mspe_mm.core.budget.TokenGridObjective`. With None the model is a plain
            ``EncoderDecoder`` in training too.
        *args, **kwargs: The host's.

    Raises:
        InputError: If the backbone has no MSPE layer.
    """

    def __init__(self, *args, tuning: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(getattr(self.backbone, 'patch_embed', None), MultiScalePatchEmbed):
            raise InputError(f'MSPEEncoderDecoder needs a backbone with an MSPE layer, and {type(self.backbone).__name__} '
                             "has none: set model.backbone.type='MSPEViT'")
        self.tuning = None if tuning is None else build_objective(tuning)
        self.freezes = tuning is not None and trains_kernels_alone(self.tuning)
        if self.freezes:
            freeze_all_but_kernels(self, self.backbone.patch_embed)

    def train(self, mode: bool = True) -> MSPEEncoderDecoder:
        super().train(mode)
        if mode and self.freezes:
            tuning_mode(self, self.backbone.patch_embed)
        return self

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict:
        """The host's losses, or with ``tuning`` those of its objective.

        Args:
            inputs: (B, C, H, W) images at the base resolution.
            data_samples: Their annotations, at the base resolution.
        """
        if self.tuning is None:
            return super().loss(inputs, data_samples)
        host_loss = super().loss
        return self.tuning(self.backbone.patch_embed, inputs, lambda images: host_loss(images, data_samples))
