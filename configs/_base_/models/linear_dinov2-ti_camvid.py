# A linear head on a small ViT/16 that is built as DINOv2 is: registers, layer scale, positions for the patches alone. Layer
# scale starts at 0.1, as CaiT has it for up to 18 blocks; DINOv2's starts at 1e-5.
_base_ = './linear_dinov2-b.py'
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(
        model_name='vit_small_patch14_reg4_dinov2',
        img_size=(240, 320),
        model_kwargs=dict(patch_size=16, embed_dim=192, num_heads=3, init_values=0.1),
        frozen=False,
        kernel_sizes=(16, )),
    decode_head=dict(in_channels=192, channels=192, num_classes=11, loss_decode=dict(avg_non_ignore=True)),
    test_cfg=dict(_delete_=True, mode='whole'))
