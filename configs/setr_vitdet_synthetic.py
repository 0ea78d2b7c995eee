# Pretrains the backbone of vitdet_synthetic.py on the semantic masks of its training images: a plain ViT detector starts
# from a pretrained backbone, as ViTDet does from MAE.
_base_ = [
    './_base_/models/setr_naive_vit-ti.py', './_base_/datasets/synthetic_detection_masks.py',
    './_base_/schedules/scratch_100e.py', './_base_/default_runtime.py'
]
custom_imports = dict(imports=['mspe_mm.det'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(
        _delete_=True,
        type='mmdet.MSPEViTDet',
        img_size=(192, 192),
        embed_dim=192,
        depth=6,
        num_heads=3,
        norm_cfg=dict(type='LN', requires_grad=True),
        use_rel_pos=True,
        window_size=4,
        window_block_indexes=[0, 2, 4],
        kernel_sizes=(16, ),    # the stock patch embedding
        kernel_policy='constant'),
    decode_head=dict(num_classes=10))
max_epochs = 5
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1, max_keep_ckpts=1))
randomness = dict(seed=0)
