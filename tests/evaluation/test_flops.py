"""Arithmetic is counted by the book."""
import pytest
import timm
import torch
import torch.nn.functional as F

from mspe_mm.evaluation.flops import count_flops
from mspe_mm.runtime.fast_products import linear


def test_a_product_and_a_convolution_by_hand():
    assert count_flops(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7
    assert count_flops(lambda: F.conv2d(torch.ones(1, 3, 8, 8), torch.ones(6, 3, 4, 4), stride=4)) == 2 * 4 * 6 * 3 * 16


@pytest.mark.parametrize('mask', [False, True])
def test_attention_counts_however_it_is_computed(mask):
    q, k = torch.ones(2, 3, 10, 4), torch.ones(2, 3, 12, 4)
    attn_mask = torch.zeros(10, 12) if mask else None
    with torch.no_grad():
        assert count_flops(lambda: F.scaled_dot_product_attention(q, k, k, attn_mask)) == 2 * 2 * (2 * 3 * 10 * 12 * 4)


def test_a_vit_by_the_sum_of_its_parts():
    dim, tokens, depth = 32, 17, 2
    model = timm.create_model('vit_tiny_patch16_224', img_size=64, embed_dim=dim, depth=depth, num_heads=2, num_classes=5)
    block = tokens * dim * (3 * dim + dim + 8 * dim) + 2 * tokens**2 * dim
    expected = 2 * ((tokens - 1) * 3 * 16**2 * dim + depth * block + 5 * dim)
    with torch.no_grad():
        assert count_flops(lambda: model.eval()(torch.zeros(1, 3, 64, 64))) == expected


@pytest.mark.parametrize('trained', [False, True])
def test_a_linear_layer_counts_whoever_computes_it(trained):
    x, weight = torch.ones(2, 3, 5, requires_grad=trained), torch.ones(7, 5, requires_grad=trained)

    def step(function):
        out = function(x, weight)
        if trained:
            out.sum().backward()

    product = 2 * 6 * 5 * 7
    assert count_flops(lambda: step(linear)) == count_flops(lambda: step(F.linear)) == product * (3 if trained else 1)


def test_count_flops_of_a_linear_layer_forward_and_backward():
    layer, x = torch.nn.Linear(12, 20), torch.randn(7, 12)
    product = 2 * 7 * 12 * 20
    assert count_flops(lambda: layer(x)) == product
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * product    # forward, and the gradient of the weight


def test_count_flops_of_a_convolution():
    layer = torch.nn.Conv2d(3, 8, 4, stride=4)
    assert count_flops(lambda: layer(torch.randn(2, 3, 16, 16))) == 2 * 2 * (4 * 4) * 8 * (3 * 4 * 4)


def test_count_flops_of_fused_attention_counts_too():
    q, k, v = (torch.randn(2, 3, length, 16, requires_grad=True) for length in (40, 56, 56))
    forward = 2 * 2 * (2 * 3 * 40 * 56 * 16)
    assert count_flops(lambda: F.scaled_dot_product_attention(q, k, v)) == forward
    both = count_flops(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both in (3 * forward, 3.5 * forward)    # the fused kernel computes one product again, which PyTorch 2.1 counts


def test_count_flops_of_nothing():
    assert count_flops(lambda: torch.ones(3) + 1) == 0
