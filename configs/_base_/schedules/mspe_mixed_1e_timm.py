# mspe_mixed_1e.py for a backbone of timm.
_base_ = './mspe_mixed_1e.py'
custom_imports = dict(imports=[*_base_.custom_imports.imports, 'mspe_mm.backbones'])
