# Tunes the patch embedding of mmdetection's published ViTDet-B Mask R-CNN for 64 to 1024 px and beyond, by the recipe that
# scored highest on other data (docs/detection.md): the features that the heads see teach, and annotations are not used.
# vitdet_mspe_5e_coco.py is the paper's.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-b.py', './_base_/datasets/coco_lsj_1024.py',
    './_base_/schedules/mspe_mixed_1e_det.py', './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'),
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'https://download.openmmlab.com/mmdetection/v3.0/vitdet/vitdet_mask-rcnn_vit-b-mae_lsj-100e/vitdet_mask-rcnn_vit-b-mae_lsj-100e_20230328_153519-e15fe294.pth'  # noqa: E501
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
