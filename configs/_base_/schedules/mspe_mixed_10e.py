# One pass a step, in which each image has a resolution of its own: AdamW with a short warm-up, then cosine. The batch size and
# the number of epochs are for small data sets; what counts is the number of images, about 6000. The learning rate is a share of
# the root mean square of the pretrained kernel: kernels have parameterization='relative'. Their gradients are as much smaller
# than those of the weights, and AdamW's eps is too.
_base_ = './mspe_5e.py'
max_epochs = 10
optim_wrapper = dict(
    constructor='FanInOptimWrapperConstructor',    # lr is for a kernel of the base size, and higher for smaller kernels
    optimizer=dict(_delete_=True, type='AdamW', lr=2.3e-2, weight_decay=0., eps=5e-10),
    paramwise_cfg=dict(relative_to_kernel=True),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
find_unused_parameters = True    # a process has a kernel for each of its images in a step: few images leave kernels out
