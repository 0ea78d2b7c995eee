_base_ = './setr_naive_vit-l.py'
model = dict(
    data_preprocessor=dict(size=(768, 768)),
    test_cfg=dict(mode='slide', crop_size=(768, 768), stride=(512, 512)))
