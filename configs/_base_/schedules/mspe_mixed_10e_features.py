# mspe_mixed_10e.py for a backbone without a head, on images without annotations: nothing to validate by.
_base_ = './mspe_mixed_10e.py'
custom_imports = dict(imports=['mspe_mm.backbones', 'mspe_mm.cls'], allow_failed_imports=False)    # cls: the transforms
# Higher rates, and kernels that do not decay to their start, follow the features of training images too far.
optim_wrapper = dict(optimizer=dict(lr=5.8e-3, weight_decay=0.3))
val_cfg = None
test_cfg = None
default_hooks = dict(
    _delete_=True,    # without mmseg's visualization hook
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    data_checks=dict(type='DataCheckHook'))
