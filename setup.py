"""Packaging of mspe_mm; tool configuration lives in pyproject.toml."""
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mspe_mm/version.py').read_text()).group(1)

class BuildWithMim(build_py):
    """Puts configs, tools and model-index.yml into ``mspe_mm/.mim``, as OpenMMLab's packages have them.

    An editable install has them in the clone (``mspe_mm/shipped.py``).
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mspe_mm/.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy2(ROOT / name, target / name)


setup(
    name='mspe_mm',
    version=VERSION,
    description='Vision Transformers at any resolution: multi-scale patch embedding (MSPE) for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['mspe_mm', 'mspe_mm.*']),
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': ['mspe = mspe_mm.__main__:main']},
    python_requires='>=3.9',
    # Neither OpenMMLab family is named here, so that users of either can install; the extras name them.
    install_requires=['torch>=2.1', 'numpy', 'safetensors', 'matplotlib', 'prettytable', 'tqdm'],
    extras_require={
        'app': ['gradio>=6'],
        'export': ['torch>=2.6', 'onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.3'],
        'cls': ['onedl-mmengine>=0.10.12', 'timm>=1.0.31'],
        'hf': ['transformers>=5.23'],
        'onedl': ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmsegmentation>=1.4.2',
                  'onedl-mmdetection>=3.5.1'],
        'upstream': ['mmengine>=0.10.4', 'mmcv>=2.0.0', 'mmsegmentation>=1.2.2', 'mmdet>=3.3.0'],
        'webdataset': ['webdataset>=0.2.86'],
    },
)
