# Tunes the patch embedding of linear_dinov3-b_ade20k.py's model for 32 to 512 px and beyond.
_base_ = [
    './_base_/models/linear_dinov3-b.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/mspe_mixed_1e_timm.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'),
    test_cfg=dict(scale=(2048, 512)))    # windows are for images of this size, and smaller on smaller ones
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'work_dirs/linear_dinov3-b_ade20k/iter_40000.pth'
