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
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, keep_small=True) if step.type == 'TimmTransform' else step for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-2))
load_from = 'work_dirs/vit_synthetic_cls/epoch_60.pth'
randomness = dict(seed=0)
