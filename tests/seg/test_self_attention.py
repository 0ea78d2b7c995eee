"""The fused self-attention against mmcv's module with the same weights."""
import copy

import pytest
import torch
from helpers import noise, randomize
from mmcv.cnn.bricks.transformer import MultiheadAttention

from mspe_mm.seg.self_attention import FusedSelfAttention

variants = pytest.mark.parametrize('changes', [
    {}, dict(batch_first=False), dict(bias=False), dict(dropout_layer=None), dict(attn_drop=0.3, proj_drop=0.2)], ids=str)


def pair(**changes):
    """mmcv's module, and the fused one in the place of a copy."""
    stock = randomize(MultiheadAttention(**{**dict(embed_dims=24, num_heads=3, batch_first=True), **changes})).double()
    return stock, FusedSelfAttention(copy.deepcopy(stock))


@variants
def test_parameter_names_are_mmcvs(changes):
    stock, fused = pair(**changes)
    assert {name: value.shape for name, value in fused.state_dict().items()} == {
        name: value.shape for name, value in stock.state_dict().items()}


def run(module, x, identity):
    """Output of a module, and the gradients of its inputs and parameters."""
    x, identity = x.clone().requires_grad_(), identity.clone().requires_grad_()
    torch.manual_seed(0)
    out = module(x, identity=identity)
    out.square().sum().backward()
    return out, [x.grad, identity.grad, *(parameter.grad for parameter in module.parameters())]


@variants
def test_outputs_and_gradients_are_mmcvs(changes):
    x, identity = noise(4, 5, 24), noise(4, 5, 24, seed=1)
    (expected, stock), (out, fused) = (run(module.eval(), x, identity) for module in pair(**changes))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(fused, stock, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('dropped', [dict(attn_drop=0.3), dict(proj_drop=0.2),
                                     dict(dropout_layer=dict(type='DropPath', drop_prob=0.5))], ids=str)
def test_in_training_the_same_numbers_are_dropped(dropped):
    # Of one sequence: of more, mmcv draws proj_drop's random numbers in the order of its transposed tensor.
    x, identity = noise(1, 20, 24), noise(1, 20, 24, seed=1)
    modules = pair(**dropped)
    (expected, stock), (out, fused) = (run(module.train(), x, identity) for module in modules)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(fused, stock, rtol=1e-9, atol=1e-9)
    assert (out - modules[1].eval()(x, identity=identity)).abs().max() > 0.01


@torch.no_grad()
def test_what_is_added_is_the_input_by_default():
    stock, fused = pair()
    x = noise(2, 5, 24)
    torch.testing.assert_close(fused(x), stock(x), rtol=0, atol=1e-9)
    assert (fused(x, identity=torch.zeros_like(x)) - fused(x)).abs().max() > 0.1


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_low_precision(dtype, tolerance):
    stock, fused = pair()
    x = noise(2, 50, 24)
    expected = stock(x)
    out = fused.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
