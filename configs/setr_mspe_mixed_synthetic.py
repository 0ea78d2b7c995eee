# As setr_mspe_synthetic.py, by kernels that see beyond their patch and passes that mix resolutions.
_base_ = [
    './_base_/models/setr_naive_vit_synthetic.py', './_base_/datasets/synthetic.py',
    './_base_/schedules/mspe_mixed_10e.py', './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        type='MSPEViT', kernel_sizes=(2, 3, 4, 6, 8, 12, 16), context=3, downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
train_dataloader = dict(batch_size=8)
load_from = 'work_dirs/setr_synthetic/epoch_20.pth'
randomness = dict(seed=0)
