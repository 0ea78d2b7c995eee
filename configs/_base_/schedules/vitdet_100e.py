# ViTDet's: 100 epochs of COCO with 64 images per step, and a learning rate that decays from layer to layer of a ViT-B.
_base_ = '../default_runtime_det.py'
max_iters = 184375    # 100 epochs * 118000 images / 64
interval = 5000
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='MSPELayerDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_rate=0.7, num_layers=12),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=[163889, 177546], gamma=0.1),
]
train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=interval,
    dynamic_intervals=[(max_iters // interval * interval + 1, max_iters)])
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, save_last=True, interval=interval, max_keep_ckpts=5))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(base_batch_size=64)
