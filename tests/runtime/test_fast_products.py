"""oneDNN's products against PyTorch's own, and where PyTorch's own are computed."""
import copy
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import noise, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.models.backbones import VisionTransformer
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from mspe_mm.runtime import fast_products
from mspe_mm.runtime.fast_products import fast_cpu_products, linear
from mspe_mm.seg import MSPEViT

SIZES = st.integers(1, 40)
single = partial(noise, dtype=torch.float32)


@pytest.fixture
def products(monkeypatch):
    """A list that grows with every product of oneDNN's."""
    calls, product = [], fast_products._product
    monkeypatch.setattr(fast_products, '_product', lambda *args: calls.append(threading.get_ident()) or product(*args))
    return calls


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2, bias=False)).eval()


@given(batch=st.lists(st.integers(0, 5), max_size=3), inputs=SIZES, outputs=SIZES, bias=st.booleans(),
       layout=st.sampled_from(['contiguous', 'transposed', 'expanded', 'strided']))
@settings(max_examples=100, deadline=None)
def test_linear_equals_pytorchs_with_its_gradient(batch, inputs, outputs, bias, layout):
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


def test_linear_is_onednns_for_float32_on_a_cpu_alone(products):
    x, weight = single(2, 3), single(4, 3)
    linear(x, weight)
    assert len(products) == 1
    linear(x.double(), weight.double())
    linear(x.to('meta'), weight.to('meta'))
    with torch.autocast('cpu', torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        linear(x, weight)
    assert len(products) == 1


@pytest.mark.parametrize('trained', ['x', 'weight', 'both'])
def test_linear_keeps_for_the_backward_pass_only_what_it_needs(trained):
    x = single(5, 3).requires_grad_(trained != 'weight')
    weight = single(4, 3).requires_grad_(trained != 'x')
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        linear(x, weight)
    assert kept == {'x': [weight.shape], 'weight': [x.shape], 'both': [x.shape, weight.shape]}[trained]


def test_fast_cpu_products_serves_every_linear_layer_and_changes_no_model(products):
    model, x = network(), single(5, 3)
    expected = model(x)
    before = copy.deepcopy(model.state_dict())
    with fast_cpu_products(enabled=True):
        torch.testing.assert_close(model(x), expected)
        F.linear(x, model[0].weight)
    assert len(products) == 3
    assert [type(module) for module in model.modules()] == [nn.Sequential, nn.Linear, nn.GELU, nn.Linear]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with fast_cpu_products(enabled=False):
        model(x)
    model(x)
    assert len(products) == 3


def test_fast_cpu_products_leaves_other_threads_alone(products):
    model, x = network(), single(5, 3)
    with fast_cpu_products(enabled=True):
        thread = threading.Thread(target=model, args=(x, ))
        thread.start()
        thread.join()
        assert products == []
        model(x)
    assert set(products) == {threading.get_ident()}


@pytest.mark.parametrize(('mkl', 'capability', 'processor', 'expected'), [
    (True, 'AVX512', 'vendor_id\t: AuthenticAMD', True),
    (True, 'AVX512', 'vendor_id\t: GenuineIntel', False),    # MKL uses AVX-512, too
    (True, 'AVX2', 'vendor_id\t: AuthenticAMD', False),
    (False, 'DEFAULT', 'CPU implementer\t: 0x41', False),
])
def test_fast_cpu_products_are_onednns_where_mkl_does_without_avx512(products, monkeypatch, mkl, capability, processor,
                                                                     expected):
    monkeypatch.setattr(torch.backends.mkl, 'is_available', lambda: mkl)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    monkeypatch.setattr(fast_products, '_processor', lambda: processor)
    fast_products.onednn_is_faster.cache_clear()
    try:
        with fast_cpu_products():
            network()(single(5, 3))
    finally:
        fast_products.onednn_is_faster.cache_clear()
    assert bool(products) is expected


def test_building_an_mspe_vit_leaves_the_classes_of_linear_layers():
    def classes(backbone):
        model = backbone(img_size=(32, 32), embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ))
        return {name: type(module) for name, module in model.named_modules() if isinstance(module, nn.Linear)}

    assert classes(MSPEViT) == classes(VisionTransformer)


@pytest.mark.parametrize('attention', ['fused', 'naive'])
def test_training_under_fast_cpu_products_has_the_same_gradients(products, attention):
    torch.manual_seed(0)
    model = randomize(MSPEViT(img_size=32, embed_dims=16, num_layers=2, num_heads=2, out_indices=(1, ),
                              attention=attention)).train()
    images = single(2, 3, 24, 24)

    def gradients(model):
        model(images)[0].square().sum().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    expected = gradients(copy.deepcopy(model))
    assert products == []
    with fast_cpu_products(enabled=True):
        actual = gradients(model)
    assert products
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        scale = expected[name].abs().max()
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5 * scale.item(), msg=name)


def transforms():
    """Programs that record or transform a network of images, and what it has to be equal to."""
    def exported(model, x):
        return torch.export.export(model, (x, ), strict=False).module()(x)

    def strictly_exported(model, x):
        return torch.export.export(model, (x, ), strict=True).module()(x)

    def compiled(model, x):
        torch._dynamo.reset()
        return torch.compile(model, backend='aot_eager', fullgraph=True, dynamic=False)(x)

    def over_weights(model, x):
        weights = {name: value.detach()[None].repeat(2, *[1] * value.dim()) for name, value in model.named_parameters()}
        return torch.func.vmap(lambda w: torch.func.functional_call(model, w, x))(weights)[1]

    def flops(model, x):
        with FlopCounterMode(display=False) as counter:
            out = model(x)
        assert counter.get_total_flops() == 2 * 5 * (3 * 4 + 4 * 2)
        return out

    return {
        'jit.trace': lambda model, x: torch.jit.trace(model, x, check_trace=False)(x),
        'export': exported,
        'export strict': strictly_exported,
        'compile': compiled,
        'make_fx': lambda model, x: make_fx(model)(x)(x),
        'vmap over images': lambda model, x: torch.func.vmap(model)(x[None].repeat(2, 1, 1))[1],
        'vmap over weights': over_weights,
        'jvp': lambda model, x: torch.func.jvp(model, (x, ), (x, ))[0],
        'functional_call': lambda model, x: torch.func.functional_call(model, dict(model.named_parameters()), x),
        'count of FLOPs': flops
    }


@pytest.mark.parametrize('name', transforms())
@pytest.mark.parametrize('entered', [False, True])
@pytest.mark.parametrize('grad', [False, True])
def test_recorded_and_transformed_calls_are_plain_pytorch(products, name, entered, grad):
    model, x = network(), single(5, 3)
    with torch.set_grad_enabled(grad):
        expected = model(x)
        with fast_cpu_products(entered):
            actual = transforms()[name](model, x)
    torch.testing.assert_close(actual, expected)
    assert (products == []) == (not entered or name != 'functional_call')    # which runs the model as it is


def test_a_compiled_vit_is_plain_pytorch_under_fast_cpu_products(products):
    torch._dynamo.reset()
    model = randomize(MSPEViT(img_size=32, embed_dims=16, num_layers=1, num_heads=2, out_indices=(0, ))).eval()
    compiled, x = torch.compile(model, backend='aot_eager', fullgraph=True, dynamic=False), single(1, 3, 24, 24)
    with torch.no_grad():
        expected = model(x)
        with fast_cpu_products(enabled=True):
            actual = compiled(x)
    torch.testing.assert_close(actual, expected)
    assert products == []


@pytest.mark.parametrize('target', ['x', 'weight'])
def test_double_backward_of_linear_is_pytorchs(target):
    x, weight, bias = (single(*size, seed=seed).requires_grad_() for seed, size in enumerate([(5, 3), (4, 3), (4, )]))

    def penalty(function):
        """The gradient of a gradient penalty."""
        tensors = dict(x=x, weight=weight)
        gradient, = torch.autograd.grad(function(x, weight, bias).pow(3).sum(), tensors[target], create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [x, weight, bias])

    for actual, expected in zip(penalty(linear), penalty(F.linear)):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)
