# setr_mspe_5e_camvid.py without labels: the base model at 240 x 320 is the teacher, on the images alone.
_base_ = './setr_mspe_5e_camvid.py'
model = dict(tuning=dict(objective='distill'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResize', scale=(320, 240), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(240, 320)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageFolder',
        data_root='data/camvid/images/train',
        metainfo={{_base_.metainfo}},
        pipeline=train_pipeline))
