# setr_mspe_camvid.py with the paper's layer and schedule, for 60 x 80 px and up. Five epochs are 115 steps of 16 images here,
# so the learning rate is ten times the paper's. correlation, objective and sampling are those of docs/results.md.
_base_ = [
    './_base_/models/setr_naive_vit-ti_camvid.py', './_base_/datasets/camvid_240x320.py', './_base_/schedules/mspe_5e.py',
    './_base_/default_runtime.py', './_base_/degradations.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(type='MSPEViT', kernel_sizes=(4, 8, 12, 16), downsampling=dict(correlation=0.99)),
    tuning=dict(objective='both', sampling='partition'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-2))
load_from = 'work_dirs/setr_camvid/epoch_100.pth'
randomness = dict(seed=0)
