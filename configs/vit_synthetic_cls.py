# A very small ViT trained from scratch on the synthetic class folders: a base model for vit_mspe_synthetic_cls.py that a
# CPU trains in two minutes.
_base_ = ['./_base_/models/vit_synthetic_cls.py', './_base_/datasets/synthetic_folders.py', './_base_/default_runtime_cls.py']
custom_imports = dict(imports=['mspe_mm.cls'], allow_failed_imports=False)
max_epochs = 60
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(pos_embed=dict(decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=5, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', interval=max_epochs), data_checks=dict(type='DataCheckHook'))
custom_hooks = [dict(type='ClassCheckHook')]
log_processor = dict(by_epoch=True)
randomness = dict(seed=0)
