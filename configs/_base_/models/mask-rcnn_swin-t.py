# Mask R-CNN on Swin-T and a feature pyramid, as in mmdetection's model zoo. Images of 1333 x 800 lie on a square canvas of
# 1344 px, 4 px for each of 336 x 336 tokens: portrait and landscape fit, and every stage is whole windows of 7 tokens.
_base_ = './vitdet_mask-rcnn_vit-b.py'
img_size = (1344, 1344)    # (height, width)
model = dict(
    data_preprocessor=dict(
        img_size=img_size,
        patch_size=4,
        canvas_value=(103.53, 116.28, 123.675)),    # the mean, in the loaded order: zero once normalised
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        mlp_ratio=4,
        qkv_bias=True,
        qk_scale=None,
        drop_rate=0.,
        attn_drop_rate=0.,
        drop_path_rate=0.2,
        patch_norm=True,
        out_indices=(0, 1, 2, 3),
        with_cp=False,
        convert_weights=True),
    neck=dict(_delete_=True, type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=1),
    roi_head=dict(
        bbox_head=dict(
            _delete_=True,
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
        mask_head=dict(norm_cfg=None)))
