# One pass a step, in which each image has a resolution of its own: AdamW, one cycle over 10 epochs. The batch size and the
# number of epochs are for small data sets; what counts is the number of images, about 6000.
_base_ = './mspe_5e.py'
max_epochs = 10
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.), clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(
        type='OneCycleLR', eta_max=1e-3, pct_start=0.1, total_steps=max_epochs, by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
