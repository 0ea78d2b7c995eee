_base_ = './setr_naive_vit-ti.py'
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    backbone=dict(img_size=(240, 320)),
    decode_head=dict(num_classes=11))
