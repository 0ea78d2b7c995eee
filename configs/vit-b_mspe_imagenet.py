# Tunes the patch embedding of timm's ViT-B/16 (augreg, ImageNet-21K, then 1K) for 28 to 448 px (MSPE, Table 1).
_base_ = ['./_base_/datasets/imagenet_timm.py', './_base_/schedules/mspe_5e_cls.py', './_base_/default_runtime_cls.py']
model = dict(
    type='MSPEClassifier',
    timm_name='vit_base_patch16_224.augreg_in21k_ft_in1k',
    pretrained=True,
    patch_embed=dict(kernel_sizes=(4, 8, 12, 16)),
    tuning=dict(base_weight=1.0, sampling='double'))
