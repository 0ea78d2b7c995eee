# Tunes the patch embedding of upernet_dinov2-b_ade20k.py's model for 148 to 518 px and beyond.
_base_ = [
    './_base_/models/upernet_dinov2-b.py', './_base_/datasets/ade20k_518x518.py', './_base_/schedules/mspe_5e_timm.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(kernel_sizes=(4, 7, 11, 14), kernel_policy='fixed', downsampling=dict(correlation=0.99)),
    tuning=dict(objective='both', sampling='double'))
train_dataloader = dict(batch_size=64, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'work_dirs/upernet_dinov2-b_ade20k/iter_160000.pth'
