"""mmseg's encoder-decoder that tunes its patch embedding for many resolutions."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList, add_prefix
from torch import Tensor

from ..core import MultiScalePatchEmbed, convert_patch_embed, freeze_all_but_kernels, tuning_mode
from ..core.adapter import find_patch_embed
from ..core.budget import build_objective, trains_kernels_alone
from ..core.convert import following_base
from ..core.distillation import distillation_loss, logit_distance, require_annotations
from ..core.multi_resolution import MultiResolutionTraining
from ..errors import InputError


@MODELS.register_module()
class MSPEEncoderDecoder(EncoderDecoder):
    """``EncoderDecoder`` plus the freezing and the multi-resolution objective of MSPE.

    Args:
        tuning: ``dict(objective=..., base_weight=..., sampling=..., aspect_jitter=...)`` of
            :class:`~mspe_mm.core.MultiResolutionObjective`; ``dict()`` takes the defaults. Without annotations
            ``objective='distill'``: the logits are compared. Or ``dict(token_grids=..., freeze=...)`` of
            :class:`~mspe_mm.core.budget.TokenGridObjective`. With None the model is a plain ``EncoderDecoder`` in training
            too.
        patch_embed: ``dict(base_resolution=..., kernel_sizes=..., ...)`` of :func:`~mspe_mm.core.convert_patch_embed`, which
            gives a stock backbone (``SwinTransformer``, ``MixVisionTransformer``, ...) its MSPE layer.
        resolutions: Train all weights at each of these resolutions in pixels, in every step, instead of at that of the
            images (ResFormer's training). With ``kernel_policy='constant'`` tokens follow the image, as there.
        *args, **kwargs: The host's.

    Raises:
        InputError: If the backbone has no MSPE layer, or cannot be given one; for two ways of training at once; or if the
            decode head has no logits to compare.
    """

    def __init__(self, *args, tuning: dict | None = None, patch_embed: dict | None = None,
                 resolutions: Sequence[int | tuple[int, int]] | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if patch_embed is not None:
            convert_patch_embed(self.backbone, **patch_embed)
        if not any(isinstance(module, MultiScalePatchEmbed) for module in self.backbone.modules()):
            raise InputError(f'MSPEEncoderDecoder needs a backbone with an MSPE layer, and {type(self.backbone).__name__} '
                             "has none: set model.backbone.type='MSPEViT', or model.patch_embed=dict(base_resolution=...) "
                             'to convert it')
        if tuning is not None and resolutions:
            raise InputError('model.tuning trains the patch kernels and model.resolutions everything: give one of them')
        layer = self.mspe_layer
        self.multi_resolution = resolutions and MultiResolutionTraining(resolutions, layer.interpolation, layer.antialias)
        self.tuning = None if tuning is None else build_objective(tuning)
        self.freezes = tuning is not None and trains_kernels_alone(self.tuning)
        self.objective = 'task' if tuning is None else self.tuning.objective
        if self.objective != 'task' and getattr(type(self.decode_head), 'loss', None) is not BaseDecodeHead.loss:
            raise InputError(f'tuning.objective={self.objective!r} compares logits, and {type(self.decode_head).__name__} '
                             "has none for each pixel: set model.tuning.objective='task'")
        if self.freezes:
            freeze_all_but_kernels(self, self.mspe_layer)

    @property
    def mspe_layer(self) -> MultiScalePatchEmbed:
        """The patch embedding, wherever the backbone keeps it."""
        return find_patch_embed(self.backbone)

    def init_weights(self) -> None:
        with following_base(self.mspe_layer):
            super().init_weights()

    def train(self, mode: bool = True) -> MSPEEncoderDecoder:
        super().train(mode)
        if mode and self.freezes:
            tuning_mode(self, self.mspe_layer)
        return self

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict:
        """The host's losses, or with ``tuning`` those of its objective, or with ``resolutions`` those at each of them.

        Args:
            inputs: (B, C, H, W) images at the base resolution.
            data_samples: Their annotations, at the base resolution.
        """
        host_loss, layer = super().loss, self.mspe_layer
        if self.multi_resolution:
            return self.multi_resolution(inputs, lambda images: host_loss(images, data_samples))
        if self.tuning is None:
            return host_loss(inputs, data_samples)
        require_annotations(self.objective, all('gt_sem_seg' in sample for sample in data_samples))
        if self.objective == 'task':
            return self.tuning(layer, inputs, lambda images: host_loss(images, data_samples))
        return self.tuning(layer, inputs, distillation_loss(
            layer, inputs, lambda images: self._comparable(images, data_samples), logit_distance, self.objective == 'both'))

    def _comparable(self, images: Tensor, data_samples: SampleList) -> tuple[Tensor, Callable[[], dict]]:
        """The decode head's logits, on its own grid, and the host's losses of the same forward pass."""
        features = self.extract_feat(images)
        outputs = self.decode_head(features)

        def task_losses() -> dict:
            losses = add_prefix(self.decode_head.loss_by_feat(outputs, data_samples), 'decode')
            if self.with_auxiliary_head:
                losses.update(self._auxiliary_head_forward_train(features, data_samples))
            return losses

        return outputs[0] if isinstance(outputs, tuple) else outputs, task_losses
