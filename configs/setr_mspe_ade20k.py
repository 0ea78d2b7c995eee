# Tunes the patch embedding of mmseg's SETR-Naive ViT-L for 32 to 512 px and beyond, by the recipe that scored highest on
# other data (docs/results.md). setr_mspe_5e_ade20k.py is the paper's.
_base_ = [
    './_base_/models/setr_naive_vit-l_ade20k.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/mspe_mixed_1e.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        type='MSPEViT', kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'),
    test_cfg=dict(scale=(2048, 512)))    # windows are for images of this size, and smaller on smaller ones
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/setr/setr_naive_512x512_160k_b16_ade20k/setr_naive_512x512_160k_b16_ade20k_20210619_191258-061f24f5.pth'  # noqa: E501
