# Tunes the patch embedding of DINOv3's ViT-B/16 for 32 to 512 px and beyond, without a head and without annotations, on a
# folder of images. The adapter fits every model with a head on these weights at 512 px: linear_dinov3-b_mspe_ade20k.py, ...
_base_ = [
    './_base_/datasets/image_folder.py', './_base_/schedules/mspe_mixed_10e_features.py', './_base_/default_runtime_cls.py'
]
model = dict(
    type='MSPEFeatureModel',
    backbone=dict(
        type='MSPETimmViT',
        model_name='vit_base_patch16_dinov3.lvd1689m',
        img_size=(512, 512),
        pretrained=True,
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16),
        context=3,
        kernel_policy='fixed',
        parameterization='relative',
        downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', sampling='partition'))
