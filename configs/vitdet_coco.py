# ViTDet-B Mask R-CNN on COCO 2017: the stock recipe, 100 epochs of large-scale jitter at 1024 x 1024 with 64 images per
# step. The backbone starts from MAE (mae_pretrain_vit_base.pth of its authors).
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-b.py', './_base_/datasets/coco_lsj_1024.py', './_base_/schedules/vitdet_100e.py'
]
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='mae_pretrain_vit_base.pth')))
