# Tunes the patch embedding of linear_dinov3-b_ade20k.py's model for 64 to 512 px and beyond.
_base_ = [
    './_base_/models/linear_dinov3-b.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/mspe_mixed_1e_timm.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        kernel_sizes=(2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'work_dirs/linear_dinov3-b_ade20k/iter_40000.pth'
