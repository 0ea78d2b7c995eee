"""mmseg's encoder-decoder that tunes its patch embedding for many resolutions."""
from __future__ import annotations

import copy
from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList, add_prefix
from torch import Tensor

from ..errors import InputError
from ..layers.call_scope import CallScope
from ..tuning.tuned_model import Outputs, TunedModel
from .windows import scaled_windows, window_scale

_cut_from: CallScope[Tensor | None] = CallScope(None)    # the image that sliding windows are cut out of


@MODELS.register_module()
class MSPEEncoderDecoder(TunedModel, EncoderDecoder):
    """``EncoderDecoder`` with the MSPE layer, its freezing and its objectives.

    Without annotations, the logits are compared (``tuning=dict(objective='distill')``) or the features (``'features'``).

    Sliding windows follow the image: on one that is a quarter of what the test pipeline resizes larger images to, they are a
    quarter as large. ``test_cfg.scale`` is that size, (width, height) as in ``Resize``; without it, windows only shrink to
    fit into the image. With ``scale=None`` windows have their own size on every image.

    Args:
        tuning: See :class:`~mspe_mm.tuning.tuned_model.TunedModel`.
        patch_embed: Likewise; for a stock backbone (``SwinTransformer``, ``MixVisionTransformer``, ...).
        resolutions: Likewise.
        *args: The host's.
        **kwargs: The host's.

    Raises:
        InputError: As ``TunedModel``, or if the decode head has no logits to compare.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        compares = self.tuning is not None and self.tuning.objective not in ('task', 'features')
        if compares and getattr(type(self.decode_head), 'loss', None) is not BaseDecodeHead.loss:
            raise InputError(f'tuning.objective={self.tuning.objective!r} needs logits for each pixel, and '
                             f"{type(self.decode_head).__name__} has none: set model.tuning.objective='task' or 'features'")

    @staticmethod
    def is_annotated(data_sample: SegDataSample) -> bool:
        """Whether a sample has a semantic mask."""
        return 'gt_sem_seg' in data_sample

    def outputs(self, images: Tensor) -> Outputs:
        """The decode head's logits (B, classes, rows, columns), on its own grid."""
        features = self.extract_feat(images)
        decoded = self.decode_head(features)
        return Outputs(decoded[0] if isinstance(decoded, tuple) else decoded, decoded, features)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The host's, of a whole image or a sliding window."""
        place = None if _cut_from.value is None else place_of_view(inputs, _cut_from.value)
        if place is None:
            return super().encode_decode(inputs, batch_img_metas)
        with self.mspe_layer.window_of(_cut_from.value, *place):
            return super().encode_decode(inputs, batch_img_metas)

    def predict_each(self, images: Sequence[Tensor], data_samples: SampleList) -> SampleList:
        """Predictions for images of any sizes, which share one pass through the encoder.

        Sliding windows are cut from one image after the other.

        Args:
            images: (1, C, h, w) of each image.
            data_samples: Their samples, which the predictions are written to.
        """
        if self.test_cfg.get('mode', 'whole') == 'slide':
            return [sample for image, sample in zip(images, data_samples) for sample in self.predict(image, [sample])]
        layer = self.mspe_layer
        with layer.embedding_each(images):
            features = self.extract_feat(layer.stand_in(images))
        for index, sample in enumerate(data_samples):
            own = [level[index:index + 1] for level in features]
            logits = self.decode_head.predict(own, [sample.metainfo], self.test_cfg)
            self.postprocess_result(logits, [sample])
        return data_samples

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The host's, by windows that follow the image; kernels with context see the image around a window."""
        host, size = copy.copy(self), tuple(inputs.shape[-2:])    # a call leaves nothing in the module
        host.test_cfg = scaled_windows(self.test_cfg, window_scale(self.test_cfg, size))
        with _cut_from.set(inputs):
            return super(MSPEEncoderDecoder, host).slide_inference(inputs, batch_img_metas)

    def losses_from(self, outputs: Outputs, data_samples: SampleList) -> dict:
        """The losses of the decode head and the auxiliary heads."""
        losses = add_prefix(self.decode_head.loss_by_feat(outputs.context, data_samples), 'decode')
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(outputs.features, data_samples))
        return losses


def place_of_view(window: Tensor, image: Tensor) -> tuple[int, int] | None:
    """Row and column of ``image`` (B, C, H, W) at which ``window``, a view of it, begins; None if it is no such view."""
    row, column = image.stride()[2:]
    same = window.untyped_storage().data_ptr() == image.untyped_storage().data_ptr() and window.stride() == image.stride()
    if not same or not row or not column:
        return None
    offset = window.storage_offset() - image.storage_offset()
    return offset // row, offset % row // column
