# Kernels for two token grids: the base grid of 12 x 12 and one of 8 x 8, which has 44% of the tokens. One pass a step, each on
# one of the grids; the teacher is the base model on the same grid. Then tools/choose_budgets.py.
_base_ = './vitdet_mspe_synthetic.py'
model = dict(backbone=dict(token_grids=[(8, 8)]))
