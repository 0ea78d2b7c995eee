# MSPE on the model of vitdet_coco128.py, tuned on the same 128 images; load_from is the checkpoint of that run. The
# optimiser is AdamW: the pretrained kernel is large here, and the paper's SGD changes nothing at 1e-2 and diverges at 0.5.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-ti.py', './_base_/datasets/coco128_256.py', './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(sampling='partition'),
    backbone=dict(kernel_sizes=(4, 8, 12, 16), kernel_policy='fixed'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'work_dirs/vitdet_coco128/epoch_160.pth'

max_epochs = 12
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=4)
val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)    # at the base nothing changes
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=8))
log_processor = dict(window_size=32)
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
randomness = dict(seed=0)
