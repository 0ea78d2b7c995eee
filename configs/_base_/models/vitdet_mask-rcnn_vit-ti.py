# A small ViTDet Mask R-CNN at 256 x 256: width 192, eight blocks, and heads that are light enough for a CPU. finest_scale is
# reduced, so that RoIs go to the same levels of the pyramid as at 1024 x 1024.
_base_ = './vitdet_mask-rcnn_vit-b.py'
img_size = (256, 256)    # (height, width)
model = dict(
    data_preprocessor=dict(img_size=img_size),
    backbone=dict(
        img_size=img_size,
        embed_dim=192,
        depth=8,
        num_heads=3,
        drop_path_rate=0.,
        window_size=8,
        window_block_indexes=[0, 2, 4, 6]),
    neck=dict(backbone_channel=192, in_channels=[48, 96, 192, 192], out_channels=64),
    rpn_head=dict(
        num_convs=1, in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=14),
        bbox_head=dict(
            _delete_=True,
            type='Shared2FCBBoxHead',
            in_channels=64,
            fc_out_channels=512,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_roi_extractor=dict(out_channels=64, finest_scale=14),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=250),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=250)))
