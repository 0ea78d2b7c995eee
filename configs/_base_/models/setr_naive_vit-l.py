# SETR-Naive on ViT-L/16, as in mmseg's model zoo.
norm_cfg = dict(type='SyncBN', requires_grad=True)
head = dict(
    type='SETRUPHead',
    in_channels=1024,
    channels=256,
    num_classes=19,
    dropout_ratio=0,
    norm_cfg=norm_cfg,
    num_convs=1,
    up_scale=4,
    kernel_size=1,
    align_corners=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255),
    backbone=dict(
        type='VisionTransformer',
        img_size=(768, 768),
        patch_size=16,
        patch_bias=True,    # the zoo's checkpoints have a bias; the default of mmseg >= 1.0 is none
        in_channels=3,
        embed_dims=1024,
        num_layers=24,
        num_heads=16,
        out_indices=(9, 14, 19, 23),
        drop_rate=0.,
        norm_cfg=dict(type='LN', eps=1e-6, requires_grad=True),
        with_cls_token=True,
        interpolate_mode='bilinear'),
    decode_head=dict(
        **head, in_index=3, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=[
        dict(**head, in_index=i, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4))
        for i in range(3)
    ],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
