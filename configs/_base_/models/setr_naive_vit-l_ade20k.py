# mmseg's auxiliary heads have two convolutions and a ReLU here.
_base_ = './setr_naive_vit-l.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
auxiliary_head = dict(
    type='SETRUPHead',
    in_channels=1024,
    channels=256,
    num_classes=150,
    dropout_ratio=0,
    norm_cfg=norm_cfg,
    act_cfg=dict(type='ReLU'),
    num_convs=2,
    kernel_size=1,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4))
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(img_size=(512, 512)),
    decode_head=dict(num_classes=150),
    auxiliary_head=[dict(in_index=i, **auxiliary_head) for i in range(3)],
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
