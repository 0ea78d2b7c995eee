"""Counts against the formulas."""
import torch
import torch.nn.functional as F

from mspe_mm.benchmark.compute import count_flops, matmul


def test_a_linear_layer_forward_and_backward():
    layer, x = torch.nn.Linear(12, 20), torch.randn(7, 12)
    product = 2 * 7 * 12 * 20
    assert count_flops(lambda _: layer(x)) == product
    assert count_flops(lambda _: layer(x).sum().backward()) == 2 * product    # forward, and the gradient of the weight


def test_a_convolution():
    layer = torch.nn.Conv2d(3, 8, 4, stride=4)
    assert count_flops(lambda _: layer(torch.randn(2, 3, 16, 16))) == 2 * 2 * (4 * 4) * 8 * (3 * 4 * 4)


def test_fused_attention_counts_too():
    q, k, v = (torch.randn(2, 3, length, 16, requires_grad=True) for length in (40, 56, 56))
    forward = 2 * 2 * (2 * 3 * 40 * 56 * 16)
    assert count_flops(lambda _: F.scaled_dot_product_attention(q, k, v)) == forward
    both = count_flops(lambda _: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both in (3 * forward, 3.5 * forward)    # the fused kernel computes one product again, which PyTorch 2.1 counts


def test_nothing_to_count():
    assert count_flops(lambda _: torch.ones(3) + 1) is None


def test_the_roofs_own_operations():
    step, flops = matmul('cpu', torch.float32, 32)
    assert count_flops(step) == flops
