# A narrower head, and BatchNorm that one process can train.
_base_ = './segformer_mit-b0.py'
model = dict(
    data_preprocessor=dict(size=(240, 320)),
    decode_head=dict(channels=128, num_classes=11, norm_cfg=dict(type='BN')))
