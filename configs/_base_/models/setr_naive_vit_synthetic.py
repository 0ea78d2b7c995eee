# SETR-Naive on a very small ViT (width 128, depth 4) for the synthetic data set.
_base_ = './setr_naive_vit-ti.py'
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(img_size=(128, 128), embed_dims=128, num_layers=4, num_heads=4, out_indices=(3, )),
    decode_head=dict(in_channels=128, channels=128, num_classes=10))
