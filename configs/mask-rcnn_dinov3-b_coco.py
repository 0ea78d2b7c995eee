# Mask R-CNN on DINOv3's ViT-B/16, on COCO 2017 at 1024 x 1024 by ViTDet's recipe. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/mask-rcnn_dinov3-b.py', './_base_/datasets/coco_lsj_1024.py', './_base_/schedules/vitdet_100e.py'
]
custom_imports = dict(imports=['mspe_mm.det', 'mspe_mm.backbones'], allow_failed_imports=False)
model = dict(backbone=dict(pretrained=True))
