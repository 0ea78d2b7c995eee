# Tunes the patch embedding of mmseg's UPerNet on Swin-T for 128 to 512 px and beyond. Whole images are tested, 512 px on
# their short side: 'isotropic' keeps the patches square whatever their aspect ratio.
_base_ = [
    './_base_/models/upernet_swin-t.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/mspe_mixed_1e.py',
    './_base_/default_runtime.py'
]
model = dict(
    type='MSPEEncoderDecoder',
    patch_embed=dict(
        base_resolution=(512, 512), kernel_sizes=(1, 2, 3, 4), context=3, kernel_policy='isotropic',
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='both', sampling='partition'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_dataloader = dict(batch_size=16, sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/swin/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K/upernet_swin_tiny_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K_20210531_112542-e380ad3e.pth'  # noqa: E501
