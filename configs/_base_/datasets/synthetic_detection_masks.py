# The semantic masks of the synthetic detection set, in mmseg's folder layout.
_base_ = './synthetic.py'
data_root = 'data/synthetic_detection'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(192, 192), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations'),    # after Resize: predictions are compared at the original size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
