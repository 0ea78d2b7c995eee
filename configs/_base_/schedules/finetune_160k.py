# All weights of a pretrained ViT-B and a new head: AdamW for 160000 steps of 16 images (8 GPUs with 2), with a learning rate
# that decays from layer to layer.
_base_ = './setr_160k.py'
custom_imports = dict(imports=['mspe_mm.backbones'], allow_failed_imports=False)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='MSPELayerDecayOptimizerConstructor',
    paramwise_cfg=dict(decay_rate=0.8, num_layers=12),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0., power=1.0, begin=1500, end=160000, by_epoch=False),
]
