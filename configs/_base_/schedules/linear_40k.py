# A head on a frozen backbone: AdamW for 40000 steps of 16 images (8 GPUs with 2), as DINOv2's authors train theirs.
_base_ = './setr_160k.py'
custom_imports = dict(imports=['mspe_mm.backbones'], allow_failed_imports=False)
max_iters = 40000
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0., power=1.0, begin=1500, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
