# One ViT-B/16 for many budgets: tunes its patch embedding for token grids of 7 x 7, 8 x 8 and 28 x 28 (patches of 32, 28 and
# 8 px), besides its own 14 x 14, on 224 px images. Compare with tools/eval_multiscale.py --token-grid 7 8 14 28.
_base_ = './vit-b_mspe_imagenet.py'
model = dict(patch_embed=dict(kernel_sizes=(8, 16, 32)), tuning=dict(_delete_=True, token_grids=[7, 8, 28]))
find_unused_parameters = True    # a step uses one kernel
val_cfg = dict(_delete_=True, type='ValLoop')
