# One SETR for many budgets: tunes the patch embedding of setr_camvid.py's model for token grids of 12 x 16 (patches of
# 20 px) and 30 x 40 (8 px), besides its own 15 x 20. Compare with tools/eval_multiscale.py --token-grid 12 15 30.
_base_ = './setr_mspe_5e_camvid.py'
model = dict(backbone=dict(kernel_sizes=(8, 16, 20)), tuning=dict(_delete_=True, token_grids=[(12, 16), (30, 40)]))
find_unused_parameters = True    # a step uses one kernel
val_cfg = dict(_delete_=True, type='ValLoop')
