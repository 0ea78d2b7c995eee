# Tunes the patch embedding of segformer_camvid.py's model for 60 x 80 px and up. Five epochs are 115 steps of 16 images
# here, so the learning rate is ten times the paper's.
_base_ = [
    './_base_/models/segformer_mit-b0_camvid.py', './_base_/datasets/camvid_240x320.py', './_base_/schedules/mspe_5e.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    patch_embed=dict(base_resolution=(240, 320), kernel_sizes=(1, 2, 3, 4)),
    tuning=dict(sampling='partition'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-2))
load_from = 'work_dirs/segformer_camvid/epoch_60.pth'
randomness = dict(seed=0)
