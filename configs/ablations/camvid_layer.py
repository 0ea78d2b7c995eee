# Settings of the layer: number and parameterization of kernels, a tuned base kernel, and lambda of Eq. 7.
base = '../setr_mspe_5e_camvid.py'
seeds = (0, 1, 2)
resolutions = (30, 60, 90, 120, 180, 210, 240)
references = ('vanilla', 'img_resize', 'flexivit', 'prior')
sizes, tune_base, weight = 'model.backbone.kernel_sizes', 'model.backbone.tune_base', 'model.tuning.base_weight'
variants = dict(
    default={},    # four kernels, (4, 8, 12, 16), the last frozen
    native={'model.backbone.parameterization': 'native'},
    kernels_1={sizes: (16, ), tune_base: True},
    kernels_2={sizes: (4, 16)},
    kernels_3={sizes: (4, 10, 16)},
    kernels_5={sizes: (4, 7, 10, 13, 16)},
    kernels_6={sizes: (4, 6, 9, 11, 14, 16)},
    tune_base_0={tune_base: True, weight: 0.},    # by lambda
    tune_base_1={tune_base: True, weight: 1.},
    tune_base_4={tune_base: True, weight: 4.})
