# setr_mspe_ade20k.py without labels: the published model at 512 x 512 is the teacher, on the images alone.
_base_ = './setr_mspe_ade20k.py'
model = dict(tuning=dict(objective='distill'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ImageFolder',
        data_root='data/ade/ADEChallengeData2016/images/training',
        pipeline=train_pipeline))
