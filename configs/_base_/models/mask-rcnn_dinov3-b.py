# ViTDet's Mask R-CNN on DINOv3's ViT-B/16, on 64 x 64 tokens of 1024 px: rotary positions, and attention without windows.
_base_ = './vitdet_mask-rcnn_vit-b.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='MSPETimmViT',
        model_name='vit_base_patch16_dinov3.lvd1689m',
        img_size=(1024, 1024),
        out_indices=(11, ),
        drop_path_rate=0.1,
        with_cp=True,
        kernel_sizes=(16, ),    # the stock patch embedding
        kernel_policy='constant'))
