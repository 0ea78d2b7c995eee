# UPerNet on DINOv3's ViT-B/16, on 32 x 32 tokens of 512 px.
_base_ = './upernet_dinov2-b.py'
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(model_name='vit_base_patch16_dinov3.lvd1689m', img_size=(512, 512), kernel_sizes=(16, )),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)))
