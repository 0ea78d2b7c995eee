# SETR's naive head on SAM's ViT-B/16 with its neck of 256 channels, on 32 x 32 tokens of 512 px. The position tables are those
# of SAM's 1024 px: timm's model resamples them in each pass.
_base_ = './linear_dinov2-b.py'
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        model_name='samvit_base_patch16.sa1b',
        img_size=(512, 512),
        model_kwargs=dict(img_size=1024),
        frozen=False,
        drop_path_rate=0.1,
        kernel_sizes=(16, )),
    decode_head=dict(
        _delete_=True,
        type='SETRUPHead',
        in_channels=256,
        channels=256,
        in_index=0,
        num_classes=150,
        dropout_ratio=0,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        num_convs=1,
        up_scale=4,
        kernel_size=1,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)))
