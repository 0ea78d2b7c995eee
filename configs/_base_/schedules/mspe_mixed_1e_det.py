# mspe_mixed_1e.py for detectors: one pass a step, in which each image has a resolution of its own.
max_epochs = 1
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='FanInOptimWrapperConstructor',    # lr is for a kernel of the base size, and higher for smaller kernels
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0., eps=5e-10),
    paramwise_cfg=dict(relative_to_kernel=True),    # lr is a share of the root mean square of the pretrained kernel
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)    # at the base nothing changes
test_cfg = dict(type='TestLoop')
find_unused_parameters = True    # a process has a kernel for each of its images in a step: few images leave kernels out
