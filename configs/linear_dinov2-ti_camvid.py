# A linear head on a small ViT with DINOv2's architecture, trained from scratch on CamVid at 240 x 320: a base model for
# linear_dinov2-ti_mspe_camvid.py, in reach of two CPU cores.
_base_ = [
    './_base_/models/linear_dinov2-ti_camvid.py', './_base_/datasets/camvid_240x320.py',
    './_base_/schedules/scratch_100e.py', './_base_/default_runtime.py'
]
custom_imports = dict(imports=['mspe_mm.backbones'], allow_failed_imports=False)
randomness = dict(seed=0)
