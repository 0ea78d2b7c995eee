# SegFormer on MiT-B0, trained from scratch on CamVid at 240 x 320: a base model for segformer_mspe_camvid.py, in reach of
# two CPU cores.
_base_ = [
    './_base_/models/segformer_mit-b0_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/scratch_100e.py', './_base_/default_runtime.py'
]
max_epochs = 60
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=3, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
randomness = dict(seed=0)
