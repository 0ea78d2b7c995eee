"""mmdet's detectors in the reference frame."""
from __future__ import annotations

from collections.abc import Callable

from mmdet.models.detectors import FCOS, CascadeRCNN, FasterRCNN, MaskRCNN, RetinaNet
from mmdet.registry import MODELS
from mmdet.structures import OptSampleList, SampleList
from mmengine.model import BaseModule
from torch import Tensor

from ..core import MultiResolutionObjective, MultiScalePatchEmbed, convert_patch_embed, freeze_all_but_kernels, tuning_mode
from ..core.adapter import find_patch_embed
from ..core.convert import following_base
from ..core.distillation import distillation_loss, feature_distance, require_annotations
from ..errors import InputError
from .data_preprocessor import MSPEDetDataPreprocessor
from .frame import frame_scale, in_frame
from .precision import FullPrecisionHeadsMixin


class MultiResolutionDetectorMixin(FullPrecisionHeadsMixin):
    """Makes any mmdet detector one for images of any resolution, and tunes its patch embedding.

    Compose it before the detector: ``class MyDetector(MultiResolutionDetectorMixin, RetinaNet)``. The backbone has to
    have an MSPE layer, or be given one by ``patch_embed``. Heads, anchors, strides and necks are the host's; see
    :mod:`mspe_mm.det.frame` for what they see. Detections are in the original image; with ``rescale=False`` they stay in
    the frame.

    Args:
        tuning: ``dict(objective=..., base_weight=..., sampling=..., aspect_jitter=...)`` of
            :class:`~mspe_mm.core.MultiResolutionObjective`; ``dict()`` takes the defaults. Without annotations
            ``objective='distill'``: the features that the heads see are compared. With None the detector trains as the
            host's.
        patch_embed: ``dict(base_resolution=..., kernel_sizes=..., ...)`` of :func:`~mspe_mm.core.convert_patch_embed`, which
            gives a stock backbone (``SwinTransformer``, ``PyramidVisionTransformerV2``, ...) its MSPE layer.
        *args, **kwargs: The host's.

    Raises:
        InputError: If the backbone has no MSPE layer and cannot be given one, or the data preprocessor is for another base
            resolution.
    """

    _features: tuple[Tensor, ...] | None = None

    def __init__(self, *args, tuning: dict | None = None, patch_embed: dict | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if patch_embed is not None:
            convert_patch_embed(self.backbone, **patch_embed)
        if not any(isinstance(module, MultiScalePatchEmbed) for module in self.backbone.modules()):
            raise InputError(f'{type(self).__name__} needs a backbone with an MSPE layer, and '
                             f"{type(self.backbone).__name__} has none: set model.backbone.type='MSPEViTDet', or "
                             'model.patch_embed=dict(base_resolution=...) to convert it')
        if 'token_grids' in (tuning or {}):
            raise InputError(f'tuning.token_grids is for classification and segmentation: {type(self).__name__} reads '
                             'features on the base grid')
        layer = self.mspe_layer
        preprocessor = self.data_preprocessor
        if isinstance(preprocessor, MSPEDetDataPreprocessor) and (
                preprocessor.base_resolution, preprocessor.patch_size) != (layer.base_resolution, layer.patch_size):
            raise InputError(
                f'data_preprocessor has img_size={preprocessor.base_resolution}, patch_size={preprocessor.patch_size} and '
                f'backbone has img_size={layer.base_resolution}, patch_size={layer.patch_size}: they must be the same')
        self.tuning, self.objective = None, 'task'
        if tuning is not None:
            self.tuning = MultiResolutionObjective(**tuning)
            self.objective = self.tuning.objective
            freeze_all_but_kernels(self, layer)

    @property
    def mspe_layer(self) -> MultiScalePatchEmbed:
        """The patch embedding, wherever the backbone keeps it."""
        return find_patch_embed(self.backbone)

    def init_weights(self) -> None:
        with following_base(self.mspe_layer):
            super().init_weights()

    def train(self, mode: bool = True) -> MultiResolutionDetectorMixin:
        super().train(mode)
        if mode and self.tuning is not None:
            tuning_mode(self, self.mspe_layer)
            # A head may predict in other units in eval mode than its loss is in (FCOS). The layers inside, which drop
            # things and gather statistics, are no BaseModules and stay in eval mode.
            for name, child in self.named_children():
                if name not in ('data_preprocessor', 'backbone', 'neck'):
                    for module in child.modules():
                        module.training = isinstance(module, BaseModule)
        return self

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """The host's losses, or with ``tuning`` those of Eq. 7, by kernel.

        Args:
            batch_inputs: (B, C, H, W) images at the base resolution.
            batch_data_samples: Their annotations, in the reference frame.

        Raises:
            InputError: If the images are not at the base resolution.
        """
        layer, size = self.mspe_layer, tuple(batch_inputs.shape[-2:])
        if frame_scale(layer, size) != (1., 1.):
            raise InputError(
                f'a training batch is {size[0]} x {size[1]} px, and training is at the base resolution of '
                f'{layer.base_resolution[0]} x {layer.base_resolution[1]}: resize, crop and pad to it in the train_pipeline')
        if self.tuning is None:
            return super().loss(batch_inputs, batch_data_samples)
        require_annotations(self.objective, all('bboxes' in sample.gt_instances for sample in batch_data_samples))
        host_loss = super().loss
        if self.objective == 'task':
            return self.tuning(layer, batch_inputs, lambda images: host_loss(images, batch_data_samples))

        def comparable(images: Tensor) -> tuple[tuple[Tensor, ...], Callable[[], dict]]:
            features = self.extract_feat(images)
            return features, lambda: self._with_features(features, lambda: host_loss(images, batch_data_samples))

        return self.tuning(layer, batch_inputs, distillation_loss(
            layer, batch_inputs, comparable, feature_distance, self.objective == 'both'))

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The host's, or what is there already."""
        return super().extract_feat(batch_inputs) if self._features is None else self._features

    def _with_features(self, features: tuple[Tensor, ...], host_loss: Callable[[], dict]) -> dict:
        """What ``host_loss`` returns if ``features`` are those of its images."""
        self._features = features
        try:
            return host_loss()
        finally:
            self._features = None

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """The host's, with heads in the reference frame."""
        with in_frame(self.mspe_layer, tuple(batch_inputs.shape[-2:]), batch_data_samples):
            return super().predict(batch_inputs, batch_data_samples, rescale=rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None) -> tuple:
        with in_frame(self.mspe_layer, tuple(batch_inputs.shape[-2:]), batch_data_samples):
            return super()._forward(batch_inputs, batch_data_samples)


@MODELS.register_module()
class MSPEFasterRCNN(MultiResolutionDetectorMixin, FasterRCNN):
    """``FasterRCNN`` at any resolution."""


@MODELS.register_module()
class MSPEMaskRCNN(MultiResolutionDetectorMixin, MaskRCNN):
    """``MaskRCNN`` at any resolution."""


@MODELS.register_module()
class MSPECascadeRCNN(MultiResolutionDetectorMixin, CascadeRCNN):
    """``CascadeRCNN``, with or without masks, at any resolution."""


@MODELS.register_module()
class MSPERetinaNet(MultiResolutionDetectorMixin, RetinaNet):
    """``RetinaNet`` at any resolution."""


@MODELS.register_module()
class MSPEFCOS(MultiResolutionDetectorMixin, FCOS):
    """``FCOS`` at any resolution."""
