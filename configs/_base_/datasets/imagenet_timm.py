# ImageNet-1K in class folders, data/imagenet/{train,val}/n01440764/*.JPEG; 64 images per GPU. Image size, interpolation
# and crop are those of the config's model.
dataset_name = 'ImageNet-1K val'
data_root = 'data/imagenet'
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', is_training=True, color_jitter=0.4),    # after RandomResizedCrop and flip
    dict(type='PackImage'),
]
test_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', keep_small=True),
    dict(type='PackImage'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='TimmImageFolder', data_root=data_root, data_prefix=dict(img_path='train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='TimmImageFolder', data_root=data_root, data_prefix=dict(img_path='val'), test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='TopKAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
