# What tools/make_synthetic.py --task detection writes, in COCO's layout. 192 px are 12 patches of 16; 1/4, 3/8, 1/2 and 3/4
# of it are 12 patches of 4, 6, 8 and 12.
dataset_name = 'synthetic val'    # in figures and tables
data_root = 'data/synthetic_detection/'
image_size = (192, 192)    # (width, height)
metainfo = dict(
    classes=('horizontal disc', 'vertical disc', 'fine box', 'coarse box', 'dotted triangle', 'grainy triangle',
             'fine cross', 'coarse cross'),
    palette=[[220, 60, 40], [250, 150, 120], [30, 80, 200], [120, 170, 250], [230, 210, 30], [150, 130, 20], [150, 40, 180],
             [220, 140, 240]])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),    # after Resize: compared at the original size
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file='annotations/instances_train.json', data_prefix=dict(img='images/train/'), pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='annotations/instances_val.json', data_prefix=dict(img='images/val/'), test_mode=True,
        pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
