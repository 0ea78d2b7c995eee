# Tunes the patch embedding of mmseg's SETR-Naive ViT-L for 128 to 512 px and beyond as the paper does (MSPE, Table 2):
# kernels that start from PI-resize, a pass for each of four kernels, the task's loss.
_base_ = [
    './_base_/models/setr_naive_vit-l_ade20k.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/mspe_5e.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    backbone=dict(type='MSPEViT', kernel_sizes=(4, 8, 12, 16)),
    tuning=dict(objective='task', sampling='double'),
    test_cfg=dict(scale=(2048, 512)))    # windows are for images of this size, and smaller on smaller ones
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=64, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/setr/setr_naive_512x512_160k_b16_ade20k/setr_naive_512x512_160k_b16_ade20k_20210619_191258-061f24f5.pth'  # noqa: E501
