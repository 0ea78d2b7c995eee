# vitdet_mspe_coco.py on a folder of images, which need no annotation file. Any will do, such as COCO's unlabeled2017.
_base_ = './vitdet_mspe_coco.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=(1024, 1024)),
    dict(type='Pad', size=(1024, 1024), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ImageFolder', data_root='data/coco/train2017', pipeline=train_pipeline))
