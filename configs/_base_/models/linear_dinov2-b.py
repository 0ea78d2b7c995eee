# A linear head on DINOv2's ViT-B/14, on 37 x 37 tokens of 518 px.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(518, 518)),
    backbone=dict(
        type='MSPETimmViT',
        model_name='vit_base_patch14_dinov2.lvd142m',
        img_size=(518, 518),
        out_indices=(11, ),
        frozen=True,
        kernel_sizes=(14, ),    # the stock patch embedding
        kernel_policy='constant'),
    decode_head=dict(
        type='FCNHead',
        in_channels=768,
        channels=768,
        in_index=0,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(518, 518), stride=(345, 345)))
