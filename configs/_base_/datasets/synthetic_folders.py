# The data set of tools/make_synthetic.py --task classification --size 64 64: one textured object per image. A quarter, three
# eighths, a half and three quarters of 64 px are 4 patches of 4, 6, 8 and 12.
dataset_name = 'synthetic val'
data_root = 'data/synthetic_folders'
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', is_training=True, scale=(0.6, 1), color_jitter=0.2, interpolation='bilinear'),
    dict(type='PackImage'),
]
test_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', crop_pct=1.0),
    dict(type='PackImage'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='TimmImageFolder', data_root=data_root, data_prefix=dict(img_path='train'), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=50,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='TimmImageFolder', data_root=data_root, data_prefix=dict(img_path='val'), test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='TopKAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
