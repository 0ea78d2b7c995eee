# UPerNet on DINOv3's ViT-B/16, on ADE20K at 512 x 512. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/upernet_dinov3-b.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/finetune_160k.py',
    './_base_/default_runtime.py'
]
model = dict(backbone=dict(pretrained=True))
