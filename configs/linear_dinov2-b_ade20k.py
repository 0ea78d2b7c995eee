# A linear head on DINOv2's ViT-B/14, whose weights stay as they are, on ADE20K at 518 x 518. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/linear_dinov2-b.py', './_base_/datasets/ade20k_518x518.py', './_base_/schedules/linear_40k.py',
    './_base_/default_runtime.py'
]
model = dict(backbone=dict(pretrained=True))
