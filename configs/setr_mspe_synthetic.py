# Tunes the patch embedding of setr_synthetic.py's model for 8 x 8 px and up, by kernels that see beyond their patch and
# steps that mix resolutions. docs/results.md compares it with setr_mspe_5e_synthetic.py, the paper's schedule.
_base_ = [
    './_base_/models/setr_naive_vit_synthetic.py', './_base_/datasets/synthetic.py',
    './_base_/schedules/mspe_mixed_20e.py', './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        type='MSPEViT', kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=8)
load_from = 'work_dirs/setr_synthetic/epoch_20.pth'
randomness = dict(seed=0)
