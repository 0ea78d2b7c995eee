# Tunes the patch embedding of setr_camvid.py's model for 15 x 20 px and up, without masks: features of the model at 240 x 320
# teach. Kernels see beyond their patch, and steps mix resolutions. docs/results.md compares it with the kernels that it
# starts from.
_base_ = [
    './_base_/models/setr_naive_vit-ti_camvid.py', './_base_/datasets/camvid_240x320_unlabelled.py',
    './_base_/schedules/mspe_mixed_5e.py', './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        type='MSPEViT', kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'))
optim_wrapper = dict(optimizer=dict(lr=5.8e-3))
load_from = 'work_dirs/setr_camvid/epoch_100.pth'
randomness = dict(seed=0)
