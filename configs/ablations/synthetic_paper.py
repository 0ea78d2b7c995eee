# The paper's ablations on the generated set, with its layer and schedule: number of kernels, lambda of Eq. 7, what is trained,
# resolutions that are drawn, length, and how the kernels start.
base = '../setr_mspe_5e_synthetic.py'
seeds = (0, 1, 2)
resolutions = (16, 32, 48, 64, 96, 128)
references = ('flexivit', 'prior')
sizes, tune_base, weight = 'model.backbone.kernel_sizes', 'model.backbone.tune_base', 'model.tuning.base_weight'
sampling, correlation = 'model.tuning.sampling', 'model.backbone.downsampling.correlation'
native = {'model.backbone.parameterization': 'native'}
epochs, warm_up, start, end = (
    'train_cfg.max_epochs', 'param_scheduler.0.end', 'param_scheduler.1.begin', 'param_scheduler.1.end')
variants = dict(
    default={},    # four kernels, (4, 8, 12, 16), the last frozen; residual; partition; five epochs; from the prior
    kernels_1={sizes: (16, ), tune_base: True},
    kernels_2={sizes: (4, 16)},
    kernels_3={sizes: (4, 10, 16)},
    kernels_5={sizes: (4, 7, 10, 13, 16)},
    tune_base_0={tune_base: True, weight: 0.},    # by lambda
    tune_base_1={tune_base: True, weight: 1.},
    tune_base_4={tune_base: True, weight: 4.},
    native=native,
    double={sampling: 'double'},
    native_sizes={sampling: 'native'},
    epochs_1={epochs: 1, warm_up: 0.2, start: 0.2, end: 1},
    epochs_2={epochs: 2, warm_up: 0.4, start: 0.4, end: 2},
    epochs_10={epochs: 10, warm_up: 2, start: 2, end: 10},
    pi={correlation: 0.},
    random=dict(init='random'),
    native_random=dict(init='random', **native),
    context={'model.backbone.context': 3})
