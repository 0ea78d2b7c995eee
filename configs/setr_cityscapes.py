# SETR-Naive ViT-L on Cityscapes at 768 x 768: mmseg's setr_vit-l_naive_8xb1-80k_cityscapes-768x768.
_base_ = [
    './_base_/models/setr_naive_vit-l_cityscapes.py', './_base_/datasets/cityscapes_768x768.py',
    './_base_/schedules/setr_80k.py', './_base_/default_runtime.py'
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit_large_p16.pth')))
