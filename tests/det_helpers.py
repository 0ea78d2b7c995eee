"""Tiny detectors and data for the detection tests."""
import copy
import json

import torch
from mmdet.registry import MODELS
from mmengine import ConfigDict

import mspe_mm.det  # noqa: F401
from mspe_mm.models.find import find_patch_embed

CLASSES = ('cat', 'dog', 'bird')


def tiny_backbone(**changes):
    """A ViTDet of two blocks, one in windows and one global, on a 4 x 4 token grid."""
    cfg = dict(
        type='MSPEViTDet', img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, use_rel_pos=True,
        window_size=3, window_block_indexes=(0, ), pretrain_img_size=32, norm_cfg=dict(type='LN'))
    return {**cfg, **changes}


def preprocessor(img_size):
    return dict(
        type='MSPEDetDataPreprocessor', img_size=img_size, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True, pad_mask=True)


NORM = dict(type='MSPELN2d')
CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2])
NECK = dict(
    type='MSPESimpleFPN', backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8, num_outs=5, norm_cfg=NORM)
STRIDES = [4, 8, 16, 32, 64]
ASSIGNER = dict(type='MaxIoUAssigner', ignore_iof_thr=-1, match_low_quality=True)
RPN_HEAD = dict(
    type='RPNHead', num_convs=2, in_channels=8, feat_channels=8,
    anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=STRIDES),
    bbox_coder=dict(CODER, target_stds=[1., 1., 1., 1.]),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss'))
BBOX_HEAD = dict(
    type='Shared4Conv1FCBBoxHead', in_channels=8, conv_out_channels=8, fc_out_channels=16, num_classes=3, norm_cfg=NORM,
    bbox_coder=CODER, loss_cls=dict(type='CrossEntropyLoss'), loss_bbox=dict(type='L1Loss'))
MASK_HEAD = dict(
    type='FCNMaskHead', num_convs=1, in_channels=8, conv_out_channels=8, num_classes=3, norm_cfg=NORM,
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True))
PROPOSALS = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
RPN_TRAIN = dict(
    assigner=dict(ASSIGNER, pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
    sampler=dict(type='RandomSampler', num=32, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
    allowed_border=-1, pos_weight=-1, debug=False)
RCNN_TRAIN = dict(
    assigner=dict(ASSIGNER, pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
    sampler=dict(type='RandomSampler', num=16, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
    mask_size=28, pos_weight=-1, debug=False)
RCNN_TEST = dict(score_thr=0., nms=dict(type='nms', iou_threshold=0.5), max_per_img=10, mask_thr_binary=0.5)


def extractor(size):
    return dict(
        type='SingleRoIExtractor', out_channels=8, featmap_strides=STRIDES[:4],
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0))


def mask_rcnn(img_size=64, backbone=None, **changes):
    """Mask R-CNN of three classes with very small heads."""
    cfg = dict(
        type='MSPEMaskRCNN',
        data_preprocessor=preprocessor(img_size),
        backbone=tiny_backbone(**{'img_size': img_size, **(backbone or {})}),
        neck=NECK,
        rpn_head=RPN_HEAD,
        roi_head=dict(
            type='StandardRoIHead', bbox_roi_extractor=extractor(7), bbox_head=BBOX_HEAD, mask_roi_extractor=extractor(14),
            mask_head=MASK_HEAD),
        train_cfg=dict(rpn=RPN_TRAIN, rpn_proposal=PROPOSALS, rcnn=RCNN_TRAIN),
        test_cfg=dict(rpn=PROPOSALS, rcnn=RCNN_TEST))
    return ConfigDict(copy.deepcopy({**cfg, **changes}))


def cascade_mask_rcnn(img_size=64, backbone=None, **changes):
    """The same with two stages of boxes."""
    cfg = mask_rcnn(img_size, backbone, type='MSPECascadeRCNN', **changes)
    cfg['roi_head'].update(
        type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 0.5], bbox_head=[BBOX_HEAD] * 2,
        mask_head=[MASK_HEAD] * 2)
    cfg['train_cfg']['rcnn'] = [RCNN_TRAIN] * 2
    return ConfigDict(copy.deepcopy(cfg))


def single_stage(detector, bbox_head, img_size=64, backbone=None, **changes):
    """A dense detector of three classes."""
    cfg = dict(
        type=detector,
        data_preprocessor=preprocessor(img_size),
        backbone=tiny_backbone(**{'img_size': img_size, **(backbone or {})}),
        neck=NECK,
        bbox_head=dict(num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1, **bbox_head),
        train_cfg=dict(
            assigner=dict(ASSIGNER, pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0), allowed_border=-1, pos_weight=-1),
        test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0., nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
    return ConfigDict(copy.deepcopy({**cfg, **changes}))


def retinanet(**kwargs):
    return single_stage('MSPERetinaNet', dict(
        type='RetinaHead', bbox_coder=CODER,
        anchor_generator=dict(
            type='AnchorGenerator', octave_base_scale=4, scales_per_octave=2, ratios=[0.5, 1.0, 2.0], strides=STRIDES)),
        **kwargs)


def fcos(norm_on_bbox=True, **kwargs):
    return single_stage('MSPEFCOS', dict(
        type='FCOSHead', strides=STRIDES, norm_on_bbox=norm_on_bbox, norm_cfg=dict(type='GN', num_groups=2),
        regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 128), (128, 1e8))), train_cfg=None, **kwargs)


def stock(cfg):
    """The mmdet detector of the same network, without MSPE: a plain convolution embeds the patches."""
    cfg = copy.deepcopy(cfg)
    cfg['type'] = cfg['type'].replace('MSPE', '')
    cfg.pop('tuning', None)
    return cfg


class PlainPatchEmbed(torch.nn.Module):
    """What ViTDet has for a patch embedding."""

    def __init__(self, proj):
        super().__init__()
        self.proj = proj

    def forward(self, x):
        x = self.proj(x)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[-2:])


def lively(model):
    """Weights that are drawn anew, so that scores and boxes differ from place to place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if '.kernels.' not in name:
                parameter.normal_(std=0.1)
                if 'norm' in name and name.endswith('weight'):
                    parameter.add_(1)
                if name.endswith('conv_reg.bias'):    # of FCOS: boxes of a few strides
                    parameter.add_(2)
    find_patch_embed(model).reset_kernels()
    return model


def build(cfg):
    return lively(MODELS.build(cfg)).eval()


def write_json(path, images, annotations, categories):
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
