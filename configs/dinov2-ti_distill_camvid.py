# Tunes the patch embedding of linear_dinov2-ti_camvid.py's backbone without its head and without masks. The adapter is one
# of linear_dinov2-ti_mspe_camvid.py.
_base_ = [
    './_base_/datasets/image_folder.py', './_base_/schedules/mspe_mixed_5e_features.py', './_base_/default_runtime_cls.py'
]
model = dict(
    type='MSPEFeatureModel',
    backbone=dict(
        type='MSPETimmViT',
        model_name='vit_small_patch14_reg4_dinov2',
        img_size=(240, 320),
        model_kwargs=dict(patch_size=16, embed_dim=192, num_heads=3, init_values=0.1),
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16),
        context=3,
        kernel_policy='fixed',
        parameterization='relative',
        downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', sampling='partition'))
# Images are as they are tested: crops that are enlarged are smoother, and crops of 360 x 480 px from 45% on are not. The model
# was trained on these images and knows them by heart: RandAugment makes them new to it (docs/label_free.md).
train_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='TimmTransform', is_training=True, scale=(0.45, 1.), ratio=(4 / 3, 4 / 3), auto_augment='rand-m9-inc1'),
    dict(type='PackImage'),
]
train_dataloader = dict(
    batch_size=8, num_workers=2, dataset=dict(data_root='data/camvid/images/train', pipeline=train_pipeline))
load_from = 'work_dirs/linear_dinov2-ti_camvid/epoch_100.pth'    # the head is left out
randomness = dict(seed=0)
