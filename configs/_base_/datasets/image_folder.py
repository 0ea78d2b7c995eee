# A folder of images, with its subfolders, without annotations. Image size and interpolation are those of the config's model.
data_root = 'data/photographs'
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', is_training=True, color_jitter=0.4),    # after RandomResizedCrop and flip
    dict(type='PackImage'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ImageFolder', data_root=data_root, pipeline=train_pipeline))
