# MSPE on the model of vitdet_synthetic.py, tuned on its training images without their annotations: the features that the
# heads see teach, so that the heads do not run. load_from is the checkpoint of that run.
_base_ = [
    './_base_/models/vitdet_mask-rcnn_synthetic.py', './_base_/datasets/synthetic_detection.py',
    './_base_/schedules/mspe_mixed_1e_det.py', './_base_/default_runtime_det.py'
]
model = dict(
    type='MSPEMaskRCNN',
    tuning=dict(type='MixedResolutionObjective', objective='features', sampling='partition'),
    backbone=dict(
        kernel_sizes=(1, 2, 3, 4, 6, 8, 12, 16), context=3, kernel_policy='fixed',
        parameterization='relative', downsampling=dict(correlation=0.99)))
# Small images keep their size: enlarged to the base resolution they would bypass the layer.
test_pipeline = [dict(step, type=step.type.replace('Resize', 'ResizeIfLarger')) for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
load_from = 'work_dirs/vitdet_synthetic/epoch_2.pth'
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2.2e-2))
custom_hooks = [dict(type='DatasetCheckHook'), dict(type='AdapterHook')]
randomness = dict(seed=0)
