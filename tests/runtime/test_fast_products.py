"""oneDNN's products against PyTorch's own."""
import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mspe_mm.runtime.fast_products import Linear, _OneDNNLinear, adopt_linears, linear

SIZES = st.integers(1, 40)
single = partial(noise, dtype=torch.float32)


@given(batch=st.lists(st.integers(0, 5), max_size=3), inputs=SIZES, outputs=SIZES, bias=st.booleans(),
       layout=st.sampled_from(['contiguous', 'transposed', 'expanded', 'strided']))
@settings(max_examples=100, deadline=None)
def test_equals_pytorchs_with_its_gradient(batch, inputs, outputs, bias, layout):
    x = dict(contiguous=single(*batch, inputs), transposed=single(inputs, *batch).movedim(0, -1),
             expanded=single(inputs).expand(*batch, inputs), strided=single(*batch, 2 * inputs)[..., ::2])[layout]
    weight, bias = single(outputs, inputs, seed=1), single(outputs, seed=2) if bias else None
    grad = single(outputs, seed=3).expand(*batch, outputs) if layout == 'expanded' else single(*batch, outputs, seed=3)

    def with_gradient(function, *tensors):
        leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
        out = function(*leaves)
        out.backward(grad.to(out.dtype))
        return [out.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]

    exact = with_gradient(F.linear, *(None if t is None else t.double() for t in (x, weight, bias)))
    terms = [inputs, outputs, grad[..., 0].numel(), grad[..., 0].numel()]    # of the sums in out and in the gradients
    for ours, reference, n in zip(with_gradient(linear, x, weight, bias), exact, terms):
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=20 * (n + 1) * 1.2e-7)


def test_float32_on_a_cpu_is_onednns_and_all_else_pytorchs(monkeypatch):
    calls = []
    monkeypatch.setattr(_OneDNNLinear, 'apply', lambda *args: calls.append(1) or F.linear(*args))
    x, weight = single(2, 3), single(4, 3)
    linear(x, weight)
    assert len(calls) == 1
    linear(x.double(), weight.double())
    linear(x.to('meta'), weight.to('meta'))
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        linear(x, weight)
    assert len(calls) == 1


@pytest.mark.parametrize('trained', ['x', 'weight', 'both'])
def test_keeps_for_the_backward_pass_only_what_it_needs(trained):
    x = single(5, 3).requires_grad_(trained != 'weight')
    weight = single(4, 3).requires_grad_(trained != 'x')
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        linear(x, weight)
    assert kept == {'x': [weight.shape], 'weight': [x.shape], 'both': [x.shape, weight.shape]}[trained]


def test_adopted_layers_keep_their_parameters_and_names():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.ModuleList([nn.Linear(4, 2, bias=False)]), nn.Conv2d(1, 1, 1))
    adopted = copy.deepcopy(model)
    adopt_linears(adopted)
    assert [type(m) for m in adopted.modules() if isinstance(m, nn.Linear)] == [Linear, Linear]
    assert list(adopted.state_dict()) == list(model.state_dict())
    x = single(5, 3)
    torch.testing.assert_close(adopted[0](x), model[0](x))
