# vitdet_mspe_coco.py with the paper's layer and schedule: SGD, 5 epochs, 64 images per step.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-b.py', './_base_/datasets/coco_lsj_1024.py', './_base_/schedules/mspe_5e_det.py',
    './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(),
    backbone=dict(kernel_sizes=(4, 8, 12, 16), kernel_policy='fixed'))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'https://download.openmmlab.com/mmdetection/v3.0/vitdet/vitdet_mask-rcnn_vit-b-mae_lsj-100e/vitdet_mask-rcnn_vit-b-mae_lsj-100e_20230328_153519-e15fe294.pth'  # noqa: E501
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
