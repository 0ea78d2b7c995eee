# UPerNet on DINOv2's ViT-B/14, on ADE20K at 518 x 518. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/upernet_dinov2-b.py', './_base_/datasets/ade20k_518x518.py', './_base_/schedules/finetune_160k.py',
    './_base_/default_runtime.py'
]
model = dict(backbone=dict(pretrained=True))
