# MSPE on mmdetection's Mask R-CNN with Swin-T: the patch embedding alone is tuned, for images from a quarter of 1333 x 800.
_base_ = [
    './_base_/models/mask-rcnn_swin-t.py', './_base_/datasets/coco_1333x800.py', './_base_/schedules/mspe_mixed_1e_det.py',
    './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    patch_embed=dict(
        base_resolution=(1344, 1344), kernel_sizes=(1, 2, 3, 4), context=3,
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'))
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_1x_coco/mask_rcnn_swin-t-p4-w7_fpn_1x_coco_20210902_120937-9d6b7cfa.pth'  # noqa: E501
