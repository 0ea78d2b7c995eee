# SETR-Naive ViT-L on ADE20K at 512 x 512: mmseg's setr_vit-l_naive_8xb2-160k_ade20k-512x512.
_base_ = [
    './_base_/models/setr_naive_vit-l_ade20k.py', './_base_/datasets/ade20k_512x512.py',
    './_base_/schedules/setr_160k.py', './_base_/default_runtime.py'
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='pretrain/vit_large_p16.pth')))
