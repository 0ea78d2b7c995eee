# A linear head on DINOv3's ViT-B/16, whose weights stay as they are, on ADE20K at 512 x 512. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/linear_dinov3-b.py', './_base_/datasets/ade20k_512x512.py', './_base_/schedules/linear_40k.py',
    './_base_/default_runtime.py'
]
model = dict(backbone=dict(pretrained=True))
