"""Peers have our weights and give our outputs, and a checkout of mmdetection is found or refused."""
import sys

import pytest
import torch

from mspe_mm import InputError
from mspe_mm.benchmark import peers
from mspe_mm.benchmark.models import vit, vitdet
from mspe_mm.benchmark.naive_vitdet import NaiveViTDet

# What a test can have of mmdetection's project: its place, its class name and its signature.
PROJECT = '''
from mmdet.registry import MODELS
from mspe_mm.benchmark.naive_vitdet import NaiveViTDet


@MODELS.register_module('ViTOfThisTest')
class ViT(NaiveViTDet):

    def __init__(self, *args, use_rel_pos=False, **kwargs):
        assert use_rel_pos
        super().__init__(*args, **kwargs)
'''


@pytest.fixture
def checkout(tmp_path):
    """Writes a checkout with this source as the project's backbone; gives its path."""
    file = tmp_path / peers.PROJECT_FILE
    file.parent.mkdir(parents=True)

    def write(source):
        file.write_text(source)
        return str(tmp_path)
    yield write
    sys.modules.pop(peers._MODULE, None)


@pytest.fixture(autouse=True)
def _small(small):
    pass


@torch.no_grad()
def test_mmsegs_vision_transformer():
    images = torch.randn(2, 3, 64, 64)
    ours, peer = vit('tiny', 64), peers.stock_vit('tiny', 64)
    ours.eval(), peer.eval()
    assert type(peer).__name__ == 'VisionTransformer'
    torch.testing.assert_close(ours(images)[0], peer(images)[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_stock_patch_embedding_is_run_and_changes_nothing():
    images = torch.randn(2, 3, 64, 64)
    for make in (vit, vitdet):
        model = make('tiny', 64).eval()
        expected = model(images)[0]
        peers.stock_patch_embedding(model)
        model.patch_embed._cached_kernel = None    # ours would call it
        torch.testing.assert_close(model(images)[0], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_without_a_checkout_the_naive_one_stands_in():
    images = torch.randn(1, 3, 64, 64)
    peer = peers.peer_vitdet('tiny', 64, None).eval()
    assert type(peer) is NaiveViTDet
    assert peers.vitdet_name(None) == 'naive ViTDet'
    torch.testing.assert_close(vitdet('tiny', 64).eval()(images)[0], peer(images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_project_of_a_checkout(checkout):
    images = torch.randn(1, 3, 64, 64)
    path = checkout(PROJECT)
    for _ in range(2):    # registers itself once
        peer = peers.peer_vitdet('tiny', 64, path).eval()
    assert type(peer).__module__ == peers._MODULE
    assert peers.vitdet_name(path) == 'mmdetection ViTDet project'
    torch.testing.assert_close(vitdet('tiny', 64).eval()(images)[0], peer(images), rtol=1e-5, atol=1e-5)


def test_a_folder_that_is_no_checkout(tmp_path):
    with pytest.raises(InputError, match=r'--peer-path .* has no projects/ViTDet/vitdet/vit.py: give a checkout'):
        peers.vitdet_class(str(tmp_path))


@pytest.mark.parametrize(('source', 'reason'), [
    ("import mmcls_of_another_time", "No module named 'mmcls_of_another_time'"),
    ('class Other: ...', "has no attribute 'ViT'"),
    ('class ViT(', 'was never closed'),
])
def test_a_project_that_cannot_be_used(checkout, source, reason):
    path = checkout(source)
    for _ in range(2):
        with pytest.raises(InputError, match=rf'vit.py cannot be used: .*{reason}'):
            peers.vitdet_class(path)
