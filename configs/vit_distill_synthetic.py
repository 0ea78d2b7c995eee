# Tunes the patch embedding of vit_synthetic_cls.py's backbone without its classifier and without labels. The adapter is one
# of vit_mspe_synthetic_cls.py.
_base_ = [
    './_base_/datasets/image_folder.py', './_base_/schedules/mspe_mixed_10e_features.py', './_base_/default_runtime_cls.py'
]
model = dict(
    type='MSPEFeatureModel',
    backbone=dict(
        type='MSPETimmViT',
        model_name='vit_tiny_patch16_224',
        img_size=64,
        model_kwargs=dict(embed_dim=128, depth=4, num_heads=4, num_classes=8),
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/vit_synthetic_cls/epoch_60.pth', prefix='backbone.'),
        kernel_sizes=(4, 8, 12, 16)),
    tuning=dict(type='MixedResolutionObjective', sampling='partition'))
train_dataloader = dict(batch_size=8, num_workers=2, dataset=dict(data_root='data/synthetic_folders/train'))
optim_wrapper = dict(optimizer=dict(lr=1.2e-3, weight_decay=0.), paramwise_cfg=dict(relative_to_kernel=False))
randomness = dict(seed=0)
