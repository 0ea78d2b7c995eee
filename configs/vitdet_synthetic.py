# A small ViTDet Mask R-CNN on the synthetic detection set at 192 x 192, with the backbone that setr_vitdet_synthetic.py
# pretrains: a base model for vitdet_mspe_synthetic.py that is tested on images which it has not seen.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_synthetic.py', './_base_/datasets/synthetic_detection.py',
    './_base_/default_runtime_det.py'
]
model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/setr_vitdet_synthetic/epoch_5.pth', prefix='backbone.')))
max_epochs = 2
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys=dict(pos_embed=dict(decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
randomness = dict(seed=0)
