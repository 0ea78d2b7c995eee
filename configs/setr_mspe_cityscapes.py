# Tunes the patch embedding of mmseg's SETR-Naive ViT-L for 48 to 768 px and beyond, by the recipe that scored
# highest on other data (docs/results.md). Five epochs see about 15,000 images.
_base_ = [
    './_base_/models/setr_naive_vit-l_cityscapes.py', './_base_/datasets/cityscapes_768x768.py',
    './_base_/schedules/mspe_mixed_5e.py', './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(
        type='MSPEViT', kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'),
    test_cfg=dict(scale=(2049, 1025)))    # windows are for images of this size, and smaller on smaller ones
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(lr=5.8e-3))
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/setr/setr_naive_vit-large_8x1_768x768_80k_cityscapes/setr_naive_vit-large_8x1_768x768_80k_cityscapes_20211123_000505-20728e80.pth'  # noqa: E501
