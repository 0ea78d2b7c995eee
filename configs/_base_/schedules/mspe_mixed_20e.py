# mspe_mixed_10e.py, twice as long: more accurate at the lowest resolutions.
_base_ = './mspe_mixed_10e.py'
max_epochs = 20
param_scheduler = [
    dict(
        type='OneCycleLR', eta_max=1e-3, pct_start=0.1, total_steps=max_epochs, by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
