# The paper's recipe for detectors: SGD for 5 epochs, linear warm-up, then cosine; 64 images per step.
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
auto_scale_lr = dict(base_batch_size=64)
