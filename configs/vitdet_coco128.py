# A small ViTDet Mask R-CNN, trained from scratch on 128 images of COCO until it has memorised them: a base model for
# vitdet_mspe_coco128.py that needs no pretrained weights.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-ti.py', './_base_/datasets/coco128_256.py', './_base_/default_runtime_det.py'
]
max_epochs = 160
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(pos_embed=dict(decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=80)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=64), checkpoint=dict(interval=10))
log_processor = dict(window_size=64)
randomness = dict(seed=0)
