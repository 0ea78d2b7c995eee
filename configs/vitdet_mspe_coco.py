# MSPE on mmdetection's published ViTDet-B Mask R-CNN: the patch embedding alone is tuned for 256 to 2048 px, by the paper's
# recipe (SGD, 5 epochs, 64 images per step).
_base_ = [
    './_base_/models/vitdet_mask-rcnn_vit-b.py', './_base_/datasets/coco_lsj_1024.py', './_base_/default_runtime_det.py'
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

max_epochs = 5
optim_wrapper = dict(
    type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='MultiResolutionValLoop', scales=['1/4', '1/2'], num_images=200)    # at the base nothing changes
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
auto_scale_lr = dict(base_batch_size=64)
