# One pass a step, in which each image has a resolution of its own: AdamW with a short warm-up, then cosine. The batch size and
# the number of epochs are for small data sets; what counts is the number of images, about 6000.
_base_ = './mspe_5e.py'
max_epochs = 10
optim_wrapper = dict(
    constructor='FanInOptimWrapperConstructor',    # lr is for a kernel of the base size, and higher for smaller kernels
    optimizer=dict(_delete_=True, type='AdamW', lr=1.2e-3, weight_decay=0.),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
