# The paper's recipe for a backbone of timm: see mspe_5e.py.
_base_ = './mspe_5e.py'
custom_imports = dict(imports=['mspe_mm.seg', 'mspe_mm.backbones'], allow_failed_imports=False)
