"""Models and synthetic data to train: SETR, Mask R-CNN on ViTDet, and its backbone alone."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from ..tuning.freezing import freeze_all_but_kernels, tuning_mode
from ..tuning.kernel_objective import MultiResolutionObjective
from .models import compiled, mask_rcnn, setr, vitdet
from .peers import TokenGrid, peer_vitdet
from .ratios import Settings
from .training import Trainee

TUNING = dict(base_weight=0.)
"""Together with ``tune_base``, a step has exactly one pass per kernel."""


MIXED = dict(type='MixedResolutionObjective', objective='features', sampling='partition')
"""The tuning of the recipes that mix resolutions: one pass, and one of the teacher."""


def setr_trainee(size: str, base: int, tuned: bool, settings: Settings, attention: str = 'fused',
                 mixed: bool = False) -> Trainee:
    """SETR-Naive with random labels; ``mixed`` tunes it by one pass a step."""
    from mmengine.structures import PixelData
    from mmseg.models.segmentors import EncoderDecoder
    from mmseg.structures import SegDataSample
    tuning = (MIXED if mixed else TUNING) if tuned else None
    model = setr(size, base, tuning=tuning, tune_base=True, attention=attention)
    generator, samples = torch.Generator().manual_seed(0), []
    for _ in range(settings.batch_size):
        labels = torch.randint(model.decode_head.num_classes, (1, base, base), generator=generator)
        sample = SegDataSample(metainfo=dict(ori_shape=(base, base), img_shape=(base, base)))
        sample.gt_sem_seg = PixelData(data=labels.to(settings.device))
        samples.append(sample)
    return _with_head(model, EncoderDecoder, samples, base, settings)


def mask_rcnn_trainee(size: str, base: int, tuned: bool, settings: Settings) -> Trainee:
    """Mask R-CNN with four objects per image."""
    from mmdet.models.detectors import MaskRCNN
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    model = mask_rcnn(size, base, tuning=TUNING if tuned else None, tune_base=True)
    # The samplers take the first boxes instead of random ones, so that all candidates have the same boxes.
    for sampler in (model.rpn_head.sampler, model.roi_head.bbox_sampler):
        sampler.random_choice = lambda gallery, num: gallery[:num]
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.4], [0.4, 0.3, 0.9, 0.9], [0.0, 0.5, 0.3, 1.0], [0.6, 0.0, 1.0, 0.2]]) * base
    masks = torch.zeros(len(boxes), base, base, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top:bottom, left:right] = 1
    samples = []
    for _ in range(settings.batch_size):
        sample = DetDataSample(metainfo=dict(
            img_shape=(base, base), pad_shape=(base, base), batch_input_shape=(base, base), scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=boxes.to(settings.device), labels=torch.arange(len(boxes), device=settings.device),
            masks=BitmapMasks(masks.numpy(), base, base))
        samples.append(sample)
    return _with_head(model, MaskRCNN, samples, base, settings)


def _with_head(model: nn.Module, host: type, samples: list, base: int, settings: Settings) -> Trainee:
    model.to(settings.device).train()
    compiled(model.backbone, settings.compile)

    def losses(images: Tensor) -> dict:
        model.loss = host.loss.__get__(model)    # the host's loss, without Eq. 7
        try:
            return model(images, samples, mode='loss')
        finally:
            del model.loss

    images = _images(base, settings)
    return Trainee(model, model.backbone.patch_embed, images, lambda: model(images, samples, mode='loss'), losses)


def vitdet_trainee(size: str, base: int, tuned: bool, settings: Settings, peer: bool = False,
                   peer_path: str | None = None) -> Trainee:
    """``MSPEViTDet``, or with ``peer`` the backbone of mmdetection's project on an MSPE layer.

    The loss is the mean square of the features.
    """
    model = vitdet(size, base, tune_base=True)
    layer = model.patch_embed
    if peer:
        model = peer_vitdet(size, base, peer_path)
        model.patch_embed = TokenGrid(layer)
    model.to(settings.device).train()
    if tuned:
        freeze_all_but_kernels(model, layer)
        tuning_mode(model, layer)
    compiled(model, settings.compile)

    def losses(images: Tensor) -> dict:
        features = model(images)
        features = features[0] if isinstance(features, tuple) else features
        return dict(loss=features.float().square().mean())

    images = _images(base, settings)
    return Trainee(model, layer, images, lambda: MultiResolutionObjective(**TUNING)(layer, images, losses), losses)


def _images(base: int, settings: Settings) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(settings.batch_size, 3, base, base, generator=generator).to(settings.device)
