# mspe_mixed_1e.py for a backbone of timm.
_base_ = './mspe_mixed_1e.py'
custom_imports = dict(
    imports=['mspe_mm.seg', 'mspe_mm.backbones', 'mspe_mm.evaluation.validation'], allow_failed_imports=False)
