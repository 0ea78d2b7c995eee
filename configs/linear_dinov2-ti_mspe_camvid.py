# Tunes the patch embedding of linear_dinov2-ti_camvid.py's model for 60 x 80 px and up, as setr_mspe_camvid.py does.
_base_ = [
    './_base_/models/linear_dinov2-ti_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/mspe_5e_timm.py', './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(kernel_sizes=(4, 8, 12, 16), kernel_policy='fixed', downsampling=dict(correlation=0.99)),
    tuning=dict(objective='both', sampling='partition'))
optim_wrapper = dict(optimizer=dict(lr=1e-2))
load_from = 'work_dirs/linear_dinov2-ti_camvid/epoch_100.pth'
randomness = dict(seed=0)
