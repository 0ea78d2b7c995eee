# Tunes the patch embedding of linear_dinov2-ti_camvid.py's model for 30 x 40 px and up.
_base_ = [
    './_base_/models/linear_dinov2-ti_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/mspe_mixed_5e_timm.py', './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        kernel_sizes=(2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
load_from = 'work_dirs/linear_dinov2-ti_camvid/epoch_100.pth'
randomness = dict(seed=0)
