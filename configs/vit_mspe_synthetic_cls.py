# Tunes the patch embedding of vit_synthetic_cls.py's model for 16 px and up. Five epochs are 95 steps here, so the
# learning rate is ten times the paper's.
_base_ = [
    './_base_/models/vit_synthetic_cls.py', './_base_/datasets/synthetic_folders.py', './_base_/schedules/mspe_5e_cls.py',
    './_base_/default_runtime_cls.py'
]
model = dict(
    type='MSPEClassifier',
    patch_embed=dict(kernel_sizes=(4, 8, 12, 16)),
    tuning=dict(sampling='partition'))
optim_wrapper = dict(optimizer=dict(lr=1e-2))
load_from = 'work_dirs/vit_synthetic_cls/epoch_60.pth'
randomness = dict(seed=0)
