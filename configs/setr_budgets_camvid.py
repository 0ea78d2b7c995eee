# Kernels for two token grids: the base grid of 15 x 20 and one of 9 x 12, which has 36% of the tokens. One pass a step, each
# on one of the grids; the teacher is at the base grid and resolution. Then tools/choose_budgets.py.
_base_ = './setr_mspe_camvid.py'
model = dict(backbone=dict(token_grids=[(9, 12)]))
