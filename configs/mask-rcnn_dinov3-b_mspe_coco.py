# Tunes the patch embedding of mask-rcnn_dinov3-b_coco.py's model for 64 to 1024 px and beyond.
_base_ = [
    './_base_/models/mask-rcnn_dinov3-b.py', './_base_/datasets/coco_lsj_1024.py', './_base_/schedules/mspe_mixed_1e_det.py',
    './_base_/default_runtime_det.py'
]
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'mspe_mm.backbones'])
model = dict(
    type='MSPEMaskRCNN',
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)),
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'))
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'work_dirs/mask-rcnn_dinov3-b_coco/iter_184375.pth'
