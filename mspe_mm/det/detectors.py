"""mmdet's detectors in the reference frame."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from mmdet.models.detectors import DINO, FCOS, CascadeRCNN, FasterRCNN, MaskRCNN, RetinaNet
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from mmengine.model import BaseModule
from torch import Tensor

from ..errors import InputError
from ..layers.call_scope import CallScope
from ..tuning.distillation import feature_distance
from ..tuning.tuned_model import Outputs, TunedModel
from .data_preprocessor import MSPEDetDataPreprocessor
from .frame import annotations_in_frame, frame_scale, in_frame
from .head_precision import FullPrecisionHeadsMixin

_known: CallScope[tuple[Tensor, tuple[Tensor, ...]] | None] = CallScope(None)    # images, and their features


class MultiResolutionDetectorMixin(FullPrecisionHeadsMixin, TunedModel):
    """Makes any mmdet detector one for images of any resolution, and tunes its patch embedding.

    Compose it before the detector: ``class MyDetector(MultiResolutionDetectorMixin, RetinaNet)``. The backbone has to
    have an MSPE layer, or be given one by ``patch_embed``. Heads, anchors, strides and necks are the host's; see
    :mod:`mspe_mm.det.frame` for the coordinates that they see. Detections are in the original image; with ``rescale=False``
    they stay in the frame. Without annotations (``tuning=dict(objective='distill')``), the features that the heads see are
    compared.

    Args:
        tuning: See :class:`~mspe_mm.tuning.tuned_model.TunedModel`.
        patch_embed: Likewise; for a stock backbone (``SwinTransformer``, ``PyramidVisionTransformerV2``, ...).
        *args: The host's.
        **kwargs: The host's.

    Raises:
        InputError: If the backbone has no MSPE layer and cannot be given one, or the data preprocessor is for another base
            resolution.
    """

    distance = staticmethod(feature_distance)
    teacher_follows_grid = True    # features of objects as large as in the student's frame

    def __init__(self, *args, tuning: dict | None = None, patch_embed: dict | None = None, **kwargs) -> None:
        super().__init__(*args, tuning=tuning, patch_embed=patch_embed, **kwargs)
        layer = self.mspe_layer
        preprocessor = self.data_preprocessor
        if isinstance(preprocessor, MSPEDetDataPreprocessor) and (
                preprocessor.base_resolution, preprocessor.patch_size) != (layer.base_resolution, layer.patch_size):
            raise InputError(
                f'data_preprocessor has img_size={preprocessor.base_resolution}, patch_size={preprocessor.patch_size} and '
                f'backbone has img_size={layer.base_resolution}, patch_size={layer.patch_size}: they must be the same')

    def train(self, mode: bool = True) -> MultiResolutionDetectorMixin:
        super().train(mode)
        if mode and self.freezes:
            # FCOS's head predicts in other units in eval mode than its loss needs, so heads are in training mode. Their
            # layers with dropout or statistics are no BaseModules and stay in eval mode.
            for name, child in self.named_children():
                if name not in ('data_preprocessor', 'backbone', 'neck'):
                    for module in child.modules():
                        module.training = isinstance(module, BaseModule)
        return self

    @staticmethod
    def is_annotated(data_sample: DetDataSample) -> bool:
        """Whether a sample has boxes."""
        return 'bboxes' in data_sample.gt_instances

    def outputs(self, images: Tensor) -> Outputs:
        """The features that the heads see, level by level."""
        features = self.extract_feat(images)
        return Outputs(features, images, features)

    def losses_from(self, outputs: Outputs, data_samples: SampleList) -> dict:
        """The host's losses of these features."""
        with _known.set((outputs.context, outputs.compared)):
            return self.host_losses(outputs.context, data_samples)

    def host_losses(self, images: Tensor, data_samples: SampleList) -> dict:
        """The host's losses of images (B, C, h, w), with annotations in their frame."""
        height, width = images.shape[-2:]
        return super().host_losses(images, annotations_in_frame(self.mspe_layer, (height, width), data_samples))

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """See :meth:`~mspe_mm.tuning.tuned_model.TunedModel.loss`; annotations are at the base resolution.

        Raises:
            InputError: If the images are not at the base resolution.
        """
        layer, size = self.mspe_layer, tuple(batch_inputs.shape[-2:])
        if frame_scale(layer, size) != (1., 1.):
            raise InputError(
                f'a training batch is {size[0]} x {size[1]} px, and training is at the base resolution of '
                f'{layer.base_resolution[0]} x {layer.base_resolution[1]}: resize, crop and pad to it in the train_pipeline')
        return super().loss(batch_inputs, batch_data_samples)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The host's, computed once where :meth:`losses_from` has them already.

        They are contiguous, whatever backbone and neck: mmcv's RoIAlign reads other layouts wrongly.
        """
        known = _known.value
        if known is not None and known[0] is batch_inputs:
            return known[1]
        return tuple(level.contiguous() for level in super().extract_feat(batch_inputs))

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """The host's, with heads in the reference frame."""
        with in_frame(self.mspe_layer, tuple(batch_inputs.shape[-2:]), batch_data_samples):
            return super().predict(batch_inputs, batch_data_samples, rescale=rescale)

    def predict_each(self, images: Sequence[Tensor], data_samples: SampleList, rescale: bool = True) -> SampleList:
        """Predictions for images of any sizes, which share one pass through the encoder, and one of the heads.

        Args:
            images: (1, C, h, w) of each image, on its canvas.
            data_samples: Their samples, which the predictions are written to.
            rescale: Whether detections are in the original image or stay in the frame.
        """
        layer = self.mspe_layer
        stand_in = layer.stand_in(images)
        with ExitStack() as frames:
            for image, sample in zip(images, data_samples):
                frames.enter_context(in_frame(layer, tuple(image.shape[-2:]), [sample]))
            with layer.embedding_each(images):
                features = self.extract_feat(stand_in)
            with _known.set((stand_in, features)):
                return super().predict(stand_in, data_samples, rescale=rescale)    # they are in the frame already

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


@MODELS.register_module()
class MSPEDINO(MultiResolutionDetectorMixin, DINO):
    """``DINO``, the detector with denoising queries, at any resolution."""
