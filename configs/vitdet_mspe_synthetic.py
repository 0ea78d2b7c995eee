# MSPE on the model of vitdet_synthetic.py, tuned on its training images without their annotations: the features that the
# heads see teach, so that the heads do not run. load_from is the checkpoint of that run.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_synthetic.py', './_base_/datasets/synthetic_detection.py',
    './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'),
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'work_dirs/vitdet_synthetic/epoch_2.pth'

max_epochs = 1
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='FanInOptimWrapperConstructor',    # lr is for a kernel of the base size, and higher for smaller kernels
    optimizer=dict(type='AdamW', lr=2.2e-2, weight_decay=0., eps=5e-10),
    paramwise_cfg=dict(relative_to_kernel=True),    # lr is a share of the root mean square of the pretrained kernel
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)    # at the base nothing changes
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
randomness = dict(seed=0)
