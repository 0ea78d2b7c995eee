# Continues the training of the published FlexiViT-B at 240 px: one kernel, resized to every patch size, and all other
# weights. To compare budgets without training:
# tools/eval_multiscale.py --token-grid 8 10 12 15 16 20 24 30 --methods vanilla flexivit
_base_ = './vit-b_mspe_imagenet.py'
model = dict(
    timm_name='flexivit_base.1200ep_in1k',
    patch_embed=dict(kernel_sizes=(16, ), interpolation='bicubic'),    # timm's resampling of the published weights
    tuning=dict(_delete_=True, token_grids=[5, 6, 8, 10, 12, 15, 16, 20, 24, 30], freeze=False))
custom_hooks = [dict(type='ClassCheckHook')]    # no adapter: all weights train
