# Tunes the patch embedding of segformer_camvid.py's model for 60 x 80 px and up, without masks, by the recipe of
# setr_mspe_camvid.py.
_base_ = [
    './_base_/models/segformer_mit-b0_camvid.py', './_base_/datasets/camvid_240x320_unlabelled.py',
    './_base_/schedules/mspe_mixed_5e.py', './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    patch_embed=dict(
        base_resolution=(240, 320), kernel_sizes=(1, 2, 3, 4), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'))
optim_wrapper = dict(optimizer=dict(lr=5.8e-3))
load_from = 'work_dirs/segformer_camvid/epoch_60.pth'
randomness = dict(seed=0)
