# Tunes the patch embedding of linear_dinov2-ti_camvid.py's model for 15 x 20 px and up, without masks: what its head sees
# at 240 x 320 teaches. dinov2-ti_distill_camvid.py does it without the head.
_base_ = [
    './_base_/models/linear_dinov2-ti_camvid.py', './_base_/datasets/camvid_240x320_unlabelled.py',
    './_base_/schedules/mspe_mixed_5e_timm.py', './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'))
optim_wrapper = dict(optimizer=dict(lr=5.8e-3, weight_decay=0.3))    # to the kernels that tuning starts from
load_from = 'work_dirs/linear_dinov2-ti_camvid/epoch_100.pth'
randomness = dict(seed=0)
