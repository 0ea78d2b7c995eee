# Settings of the tuning: objective, resolutions drawn, and length.
base = '../setr_mspe_5e_camvid.py'
seeds = (0, 1, 2)
resolutions = (30, 60, 90, 120, 180, 210, 240)
objective, sampling = 'model.tuning.objective', 'model.tuning.sampling'
epochs, warm_up, start, end = (
    'train_cfg.max_epochs', 'param_scheduler.0.end', 'param_scheduler.1.begin', 'param_scheduler.1.end')
variants = dict(
    default={},    # labels and teacher, partition, five epochs
    task={objective: 'task'},
    distill={objective: 'distill'},
    double={sampling: 'double'},
    native_sizes={sampling: 'native'},
    aspect_jitter={'model.tuning.aspect_jitter': True},
    epochs_1={epochs: 1, warm_up: 0.2, start: 0.2, end: 1},
    epochs_2={epochs: 2, warm_up: 0.4, start: 0.4, end: 2},
    epochs_10={epochs: 10, warm_up: 2, start: 2, end: 10},
    epochs_20={epochs: 20, warm_up: 4, start: 4, end: 20},
    distill_epochs_20={objective: 'distill', epochs: 20, warm_up: 4, start: 4, end: 20})
