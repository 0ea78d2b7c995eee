"""The configs and tools that come with the package: in ``.mim`` beside it if it was installed, else in the clone."""
from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE / '.mim' if (_PACKAGE / '.mim').is_dir() else _PACKAGE.parent

CONFIGS = _ROOT / 'configs'
TOOLS = _ROOT / 'tools'
