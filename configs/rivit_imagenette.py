# RIViT's comparison, for tools/compare_rivit.py: each batch at 96, 128 and 160 px, from scratch, on Imagenette (short side
# 320 px) in class folders. Width, depth and schedule are those of a ViT-Ti, because the report states none.
_base_ = './_base_/default_runtime_cls.py'
custom_imports = dict(imports=['mspe_mm.cls'], allow_failed_imports=False)
dataset_name = 'Imagenette val'
data_root = 'data/imagenette2-320'
model = dict(
    type='TimmClassifier',
    timm_name='rivit_tiny_patch4_160',
    resolutions=[96, 128, 160],
    model_kwargs=dict(img_size=160, num_classes=10, embedding='conv_stem', position='relative'))
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TorchvisionTransform', name='RandomRotation', degrees=15),
    dict(type='TimmTransform', is_training=True, scale=(0.35, 1), color_jitter=(0.2, 0.2, 0.2, 0.1)),
    dict(type='PackImage'),
]
test_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', crop_pct=1.0),
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
max_epochs = 50
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0., bias_decay_mult=0.,
        custom_keys=dict(pos_embed=dict(decay_mult=0.), rel_pos=dict(decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=5, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=10, max_keep_ckpts=1), data_checks=dict(type='DataCheckHook'))
custom_hooks = [dict(type='ClassCheckHook')]
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
