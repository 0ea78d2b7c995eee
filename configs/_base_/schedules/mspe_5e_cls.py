# The paper's recipe for a classifier: see mspe_5e.py.
_base_ = './mspe_5e.py'
custom_imports = dict(imports=['mspe_mm.cls', 'mspe_mm.evaluation.validation'], allow_failed_imports=False)
default_hooks = dict(
    _delete_=True,    # without mmseg's visualization hook
    logger=dict(type='LoggerHook', interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
    data_checks=dict(type='DataCheckHook'))
custom_hooks = [dict(type='ClassCheckHook'), dict(type='AdapterHook')]
