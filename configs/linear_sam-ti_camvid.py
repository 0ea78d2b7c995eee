# A linear head on a small ViT with the architecture of SAM's encoder, trained from scratch on CamVid at 240 x 320: a base
# model for linear_sam-ti_mspe_camvid.py, in reach of two CPU cores.
_base_ = [
    './_base_/models/linear_sam-ti_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/scratch_100e.py', './_base_/default_runtime.py'
]
custom_imports = dict(imports=['mspe_mm.backbones'], allow_failed_imports=False)
randomness = dict(seed=0)
