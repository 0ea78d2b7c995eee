# The DINO detector on DINOv3's ViT-B/16, on COCO 2017 at 1024 x 1024 with large-scale jitter: mmdetection's schedule of 36
# epochs with 16 images per step, and a learning rate that decays from layer to layer. timm fetches the pretrained weights.
_base_ = [
    './_base_/models/dino_dinov3-b.py', './_base_/datasets/coco_lsj_1024_boxes.py', './_base_/default_runtime_det.py'
]
custom_imports = dict(imports=['mspe_mm.det', 'mspe_mm.backbones'], allow_failed_imports=False)
model = dict(backbone=dict(pretrained=True))
train_dataloader = dict(batch_size=2)

max_epochs = 36
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='MSPELayerDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_rate=0.8, num_layers=12),
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2))
param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[27, 33], gamma=0.1)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16)
