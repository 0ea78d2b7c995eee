"""The naive ViTDet and the package's are the same function, with nothing in common but PyTorch."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.benchmark.naive_vitdet import NaiveViTDet, offsets
from mspe_mm.benchmark.peers import TokenGrid
from mspe_mm.det import MSPEViTDet

SHAPE = dict(img_size=64, patch_size=8, embed_dim=12, depth=3, num_heads=3, window_size=3, window_block_indexes=(0, 2),
             pretrain_img_size=40)


def pair(**changes):
    """Ours and the naive one in float64 with the same, large weights."""
    ours = MSPEViTDet(**SHAPE, use_rel_pos=True, kernel_sizes=(2, 4, 8), **changes).double().eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    naive = NaiveViTDet(**SHAPE).double().eval()
    naive.load_state_dict({name: value for name, value in ours.state_dict().items() if '.kernels.' not in name}, strict=True)
    return ours, naive


@pytest.mark.parametrize('size', [(64, 64), (24, 40), (80, 72)], ids=['base', 'smaller', 'larger'])
@torch.no_grad()
def test_forward(size):
    ours, naive = pair(kernel_policy='constant')
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(images)[0], naive(images), rtol=1e-9, atol=1e-9)


def test_gradients_on_an_mspe_layer():
    """As the tuning step has it: at a lower resolution, the layer ours, the blocks the peer's."""
    ours, naive = pair()
    naive.patch_embed = TokenGrid(ours.patch_embed)
    images = torch.randn(1, 3, 40, 40, dtype=torch.float64)
    kernel = ours.patch_embed.kernels['4'].weight
    gradients = [torch.autograd.grad(model(images)[0].square().mean(), kernel)[0] for model in (ours, naive)]
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@given(st.integers(1, 9), st.integers(0, 100))
def test_offsets(n, seed):
    table = torch.randn(2 * n - 1, 2, generator=torch.Generator().manual_seed(seed))
    gathered = offsets(table, n)
    assert all(torch.equal(gathered[i, j], table[i - j + n - 1]) for i in range(n) for j in range(n))
