"""Packaging of mspe_mm; tool configuration lives in pyproject.toml."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mspe_mm/version.py').read_text()).group(1)

setup(
    name='mspe_mm',
    version=VERSION,
    description='Vision Transformers at any resolution: multi-scale patch embedding (MSPE) for OpenMMLab',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['mspe_mm', 'mspe_mm.*']),
    python_requires='>=3.9',
    # Neither OpenMMLab family is named here, so that users of either can install; the extras name them.
    install_requires=['torch>=2.1', 'numpy', 'safetensors', 'matplotlib', 'prettytable', 'tqdm'],
    extras_require={
        'cls': ['onedl-mmengine>=0.10.12', 'timm>=1.0.31'],
        'onedl': ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmsegmentation>=1.4.2',
                  'onedl-mmdetection>=3.5.1'],
        'upstream': ['mmengine>=0.10.4', 'mmcv>=2.0.0', 'mmsegmentation>=1.2.2', 'mmdet>=3.3.0'],
        'webdataset': ['webdataset>=0.2.86'],
    },
)
