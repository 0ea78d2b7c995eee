# Tunes the patch embedding of upernet_dinov2-b_ade20k.py's model for 74 to 518 px and beyond.
_base_ = [
    './_base_/models/upernet_dinov2-b.py', './_base_/datasets/ade20k_518x518.py', './_base_/schedules/mspe_mixed_1e_timm.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        kernel_sizes=(2, 3, 4, 5, 7, 11, 14), context=3, kernel_policy='fixed',
        downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'work_dirs/upernet_dinov2-b_ade20k/iter_160000.pth'
