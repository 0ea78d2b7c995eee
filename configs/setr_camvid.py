# SETR-Naive, ViT-Ti/16, trained from scratch on CamVid at 240 x 320: a base model for setr_mspe_camvid.py, in reach
# of two CPU cores.
_base_ = [
    './_base_/models/setr_naive_vit-ti_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/scratch_100e.py', './_base_/default_runtime.py'
]
randomness = dict(seed=0)
