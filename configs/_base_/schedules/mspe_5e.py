# The paper's recipe: SGD for 5 epochs, linear warm-up, then cosine; 64 images per GPU (set with the data).
custom_imports = dict(imports=['mspe_mm.seg', 'mspe_mm.evaluation.validation'], allow_failed_imports=False)
max_epochs = 5
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)    # at the base nothing changes
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=10),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    data_checks=dict(type='DataCheckHook'))
custom_hooks = [dict(type='AdapterHook')]
log_processor = dict(by_epoch=True)
