# MSPE on the model of vitdet_synthetic.py, tuned on its training images; load_from is the checkpoint of that run.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_synthetic.py', './_base_/datasets/synthetic_detection.py',
    './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(sampling='partition'),
    backbone=dict(kernel_sizes=(4, 8, 12, 16), kernel_policy='fixed', downsampling=dict(correlation=0.99)))
load_from = 'work_dirs/vitdet_synthetic/epoch_8.pth'

max_epochs = 1
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
randomness = dict(seed=0)
