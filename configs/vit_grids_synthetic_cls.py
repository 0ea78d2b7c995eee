# Continues the training of all weights of vit_synthetic_cls.py's model, at random token grids of 64 px images, as FlexiViT
# does: one checkpoint for many budgets. Compare with
# tools/eval_multiscale.py --token-grid 2 3 4 6 8 --methods vanilla flexivit
_base_ = './vit_synthetic_cls.py'
max_epochs = 15
model = dict(
    type='MSPEClassifier',
    patch_embed=dict(kernel_sizes=(16, )),
    tuning=dict(token_grids=[2, 3, 4, 6, 8], freeze=False))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, begin=0, end=15, convert_to_iter_based=True)]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(checkpoint=dict(interval=max_epochs))
load_from = 'work_dirs/vit_synthetic_cls/epoch_60.pth'
