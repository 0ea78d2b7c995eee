# What each part of setr_mspe_synthetic.py is worth on the generated set. Each variant changes one part; `k_passes` sees as
# many images in student passes as `default`. For the paper's schedule: --cfg-options on a plan of setr_mspe_5e_synthetic.py.
base = '../setr_mspe_synthetic.py'
seeds = (0, 1, 2)
resolutions = (16, 32, 48, 64, 96)
kernels, context, tuning = 'model.backbone.kernel_sizes', 'model.backbone.context', 'model.tuning'
epochs, steps = 'train_cfg.max_epochs', 'param_scheduler.1.end'
variants = dict(
    default={},
    no_context={context: 0},
    context_2={context: 2},
    context_4={context: 4},
    four_kernels={kernels: (4, 8, 12, 16)},
    from_2_px={kernels: (2, 3, 4, 6, 8, 12, 16)},
    no_correlation={'model.backbone.downsampling.correlation': 0.},
    task={'model.tuning.objective': 'task'},
    distill={'model.tuning.objective': 'distill'},
    epochs_2={epochs: 2, steps: 2},
    epochs_3={epochs: 3, steps: 3},
    epochs_5={epochs: 5, steps: 5},
    epochs_10={epochs: 10, steps: 10},
    k_passes={tuning: dict(type='MultiResolutionObjective', objective='both', sampling='partition'), epochs: 4, steps: 4},
    one_rate={'optim_wrapper.constructor': 'DefaultOptimWrapperConstructor', 'optim_wrapper.optimizer.lr': 1.9e-2},
    low_rate={'optim_wrapper.optimizer.lr': 6e-3},
    high_rate={'optim_wrapper.optimizer.lr': 6e-2})
