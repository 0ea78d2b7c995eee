# The synthetic data set that tools/make_synthetic.py writes, in mmseg's folder layout. 128 px are 8 patches of 16;
# 1/4, 3/8, 1/2 and 3/4 of it are 8 patches of 4, 6, 8 and 12.
dataset_name = 'synthetic val'
data_root = 'data/synthetic'
metainfo = dict(
    classes=('sand', 'gravel', 'horizontal disc', 'vertical disc', 'fine box', 'coarse box', 'dotted triangle',
             'grainy triangle', 'fine cross', 'coarse cross'),
    palette=[[200, 180, 120], [120, 120, 120], [220, 60, 40], [250, 150, 120], [30, 80, 200], [120, 170, 250],
             [230, 210, 30], [150, 130, 20], [150, 40, 180], [220, 140, 240]])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True, backend='pillow'),
    dict(type='LoadAnnotations'),    # after Resize: predictions are compared at the original size
    dict(type='PackSegInputs'),
]
dataset = dict(type='BaseSegDataset', data_root=data_root, metainfo=metainfo, img_suffix='.png', seg_map_suffix='.png')
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'), pipeline=train_pipeline,
        **dataset))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'), pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mFscore'])
test_evaluator = val_evaluator
