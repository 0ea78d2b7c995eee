"""Configs are built in mmseg's scope, whichever tests ran before."""
import pytest
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True)
def _mmseg_scope():
    init_default_scope('mmseg')
