"""The early backward pass against the one at the end: the same gradient, whoever asks for it and in whatever precision."""
import copy
import pickle

import pytest
import torch
from helpers import noise
from hypothesis import given
from hypothesis import strategies as st
from mmengine.model import BaseModel
from torch import nn

from mspe_mm.tuning.early_backward import EarlyBackward, stand_ins

# What a model may return: names, of which some are losses, for tensors of any shape and lists of them; None is a constant.
SHAPES = st.one_of(st.none(), st.lists(st.integers(1, 3), max_size=3))
VALUES = st.dictionaries(
    st.sampled_from(['loss', 'decode.loss_ce', 'loss_mask', 'aux.loss', 'acc', 'decode.acc_seg']),
    st.one_of(SHAPES, st.lists(SHAPES, min_size=1, max_size=3).map(tuple)), min_size=1)


def linear(dtype=torch.float64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3, dtype=dtype)


def losses_of(module, values, dtype=torch.float64):
    """Losses of the shapes in ``values``, every element with another gradient."""
    def term(shape, seed):
        if shape is None:
            return torch.tensor(0.5, dtype=dtype)
        return module(noise(*shape, 4, dtype=dtype, seed=seed)).sin().sum(-1)

    return {name: [term(shape, i + j) for j, shape in enumerate(value)] if isinstance(value, tuple) else term(value, i)
            for i, (name, value) in enumerate(values.items())}


def total(losses):
    """What mmengine minimises."""
    return BaseModel.parse_losses(None, losses)[0]


def flat(losses):
    return [term for value in losses.values() for term in (value if isinstance(value, list) else [value])]


def gradient_of(module, loss):
    return torch.autograd.grad(loss, list(module.parameters()))


def assert_close(actual, expected, **tolerance):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        torch.testing.assert_close(a, e, **tolerance)


@given(VALUES)
def test_the_gradient_is_that_of_what_mmengine_minimises(values):
    module = linear()
    losses = EarlyBackward()(module, lambda: losses_of(module, values))
    expected = losses_of(module, values)
    assert list(losses) == list(expected)
    assert all(torch.equal(a, e) for a, e in zip(flat(losses), flat(expected)))
    tracked = any(term.requires_grad for name, value in expected.items() if 'loss' in name for term in flat({'': value}))
    assert sum(term.requires_grad for term in flat(losses)) == (1 if tracked else len([t for t in flat(expected)
                                                                                      if t.requires_grad]))
    if tracked:
        assert_close(gradient_of(module, total(losses)), gradient_of(module, total(expected)), rtol=1e-9, atol=1e-12)


def test_one_tensor_under_two_names_counts_twice():
    module = linear()

    def compute():
        loss = module(noise(2, 4)).square().mean()
        return dict(loss=loss, loss_again=loss, loss_list=[loss, loss])

    losses = EarlyBackward()(module, compute)
    assert_close(gradient_of(module, total(losses)), gradient_of(module, total(compute())), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_is_no_backward_pass(context):
    module = linear()
    with context():
        losses = EarlyBackward()(module, lambda: losses_of(module, dict(loss=[2])))
    assert not losses['loss'].requires_grad
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize('own', [False, True])
def test_early_backward_refuses_parameters_outside_of_the_module(own):
    module, other = linear(), linear()
    with pytest.raises(RuntimeError, match=r'2 tensors outside of the trained module require a gradient.*freeze'):
        EarlyBackward()(module, lambda: dict(loss_ce=other(noise(2, 4)).mean() + own * module(noise(2, 4)).mean()))
    assert all(parameter.grad is None for parameter in [*module.parameters(), *other.parameters()])


def test_early_backward_takes_no_function_for_a_parameter():
    """Whatever a function of the host's own calls what it keeps."""
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.variable = noise(2)
            return 2 * x

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

    module = linear()

    def losses():
        return dict(loss=Doubled.apply(module(noise(2, 4))).square().mean())

    expected = gradient_of(module, losses()['loss'])
    assert_close(gradient_of(module, total(EarlyBackward()(module, losses))), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('backend', ['aot_eager', 'eager'])
def test_early_backward_finds_foreign_parameters_in_a_compiled_graph(backend):
    torch._dynamo.reset()
    module, other = linear(torch.float32), linear(torch.float32)
    own = torch.compile(lambda x: module(x).square().mean(), backend=backend)
    both = torch.compile(lambda x: (module(x) * other(x)).mean(), backend=backend)
    x = noise(2, 4, dtype=torch.float32)
    expected = gradient_of(module, module(x).square().mean())
    assert_close(gradient_of(module, total(EarlyBackward()(module, lambda: dict(loss=own(x))))), expected)
    with pytest.raises(RuntimeError, match='2 tensors outside of the trained module'):
        EarlyBackward()(module, lambda: dict(loss=both(x)))


def test_early_backward_gives_tied_parameters_their_whole_gradient():
    module = nn.ModuleList([linear(), linear()])
    module[1].weight = module[0].weight

    def losses():
        return dict(loss=sum(part(noise(2, 4)).square().mean() for part in module))
    expected = torch.autograd.grad(losses()['loss'], list(module.parameters()))
    total(EarlyBackward()(module, losses)).backward()
    assert_close([parameter.grad for parameter in module.parameters()], list(expected), rtol=1e-9, atol=1e-12)


# -- What stands in for the parameters ---------------------------------------------------------------------------------


def test_the_early_pass_touches_no_parameter_and_the_late_one_adds_to_its_gradient():
    module, arrived = linear(), []
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
        parameter.register_hook(arrived.append)
    losses = EarlyBackward()(module, lambda: losses_of(module, dict(loss=[2])))
    assert all(a is b for a, b in zip(module.parameters(), parameters))
    assert arrived == []
    assert all(torch.equal(parameter.grad, torch.ones_like(parameter)) for parameter in parameters)
    total(losses).backward()
    expected = gradient_of(module, total(losses_of(module, dict(loss=[2]))))
    assert_close([parameter.grad - 1 for parameter in parameters], expected, rtol=1e-9, atol=1e-12)
    assert len(arrived) == 2 * len(parameters)    # gradient_of is seen as well


def test_stand_ins_share_the_memory_of_what_is_trained():
    module = nn.ModuleDict(dict(a=linear(), b=nn.ModuleList([linear()]))).requires_grad_(False)
    module['b'].requires_grad_(True)
    before = dict(module.named_parameters())
    with stand_ins(module) as pairs:
        inside = dict(module.named_parameters())
        assert list(inside) == list(before)
        trained = {name: parameter for name, parameter in before.items() if parameter.requires_grad}
        assert len(pairs) == len(trained) == 2
        for (original, stand_in), (name, parameter) in zip(pairs, trained.items()):
            assert original is parameter
            assert stand_in is inside[name] is not original
            assert stand_in.data_ptr() == original.data_ptr()
            assert stand_in.requires_grad
            assert stand_in.is_leaf
        assert all(inside[name] is parameter for name, parameter in before.items() if name not in trained)
    assert all(parameter is before[name] for name, parameter in module.named_parameters())


def test_the_parameters_are_back_when_the_task_fails():
    module = linear()
    parameters = list(module.parameters())
    with pytest.raises(ZeroDivisionError):
        EarlyBackward()(module, lambda: 1 / 0)
    assert all(a is b for a, b in zip(module.parameters(), parameters))


# -- Loss scale --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('factors', [(1024., ), (1 / 3, 1 / 3), (1., 2.**-20, 2.**20)])
def test_the_trainers_factor_is_on_the_gradient_and_is_the_next_loss_scale(factors):
    module, early_backward = linear(), EarlyBackward()
    assert early_backward.loss_scale == 2.**16
    expected = gradient_of(module, total(losses_of(module, dict(loss_a=[2, 2], loss_b=([3], None)))))
    for factor in factors:
        losses = early_backward(module, lambda: losses_of(module, dict(loss_a=[2, 2], loss_b=([3], None))))
        gradients = gradient_of(module, total(losses) * factor)
        assert_close(gradients, [factor * gradient for gradient in expected], rtol=1e-6, atol=0)    # the scale is float32
        torch.testing.assert_close(early_backward.loss_scale, torch.tensor(factor), rtol=1e-6, atol=0)
        assert early_backward.loss_scale.dtype == torch.float32


def test_a_loss_that_is_weighted_with_zero_leaves_the_scale():
    module, early_backward = linear(), EarlyBackward()
    for factor in (4., 0.):
        gradients = gradient_of(module, total(early_backward(module, lambda: losses_of(module, dict(loss=[2])))) * factor)
        assert early_backward.loss_scale == 4.
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('scale', [2.**16, 2.**-10])
def test_a_power_of_two_changes_no_bit(dtype, scale):
    module, early_backward = linear(dtype), EarlyBackward()
    early_backward.loss_scale = torch.tensor(scale)
    losses = early_backward(module, lambda: losses_of(module, dict(loss=[5]), dtype))
    expected = gradient_of(module, total(losses_of(module, dict(loss=[5]), dtype)))
    assert all(torch.equal(a, e) for a, e in zip(gradient_of(module, total(losses)), expected))


def test_copies_keep_a_loss_scale_of_their_own():
    module, early_backward = linear(), EarlyBackward()
    gradient_of(module, 8 * total(early_backward(module, lambda: losses_of(module, dict(loss=[2])))))
    for other in (copy.deepcopy(early_backward), pickle.loads(pickle.dumps(early_backward))):
        assert other.loss_scale == 8.
        gradient_of(module, 2 * total(other(module, lambda: losses_of(module, dict(loss=[2])))))
        assert (other.loss_scale, early_backward.loss_scale) == (2., 8.)


class Float16Gradient(torch.autograd.Function):
    """The identity, whose gradient goes through float16, as in the layers that autocast runs in it."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.half().to(gradient.dtype)


class Scaler:
    """GradScaler by the book (it wants a GPU): a step with a gradient that is not finite is skipped and halves the scale."""

    def __init__(self, interval=2000):
        self.scale, self.interval, self.good, self.skipped = 2.**16, interval, 0, 0

    def step(self, loss, parameters):
        """The gradients of the step, None if it is skipped."""
        gradients = torch.autograd.grad(loss * self.scale, parameters)
        gradients = [gradient / self.scale for gradient in gradients]
        if not all(gradient.isfinite().all() for gradient in gradients):
            self.scale, self.good, self.skipped = self.scale / 2, 0, self.skipped + 1
            return None
        self.good += 1
        if self.good == self.interval:
            self.scale, self.good = 2 * self.scale, 0
        return gradients


# With the first of these sizes most gradients are zero in float16 as they are; with the last, infinite times 2**16.
@pytest.mark.parametrize('size', [1e-6, 1.0, 1e3])
def test_float16_gradients_neither_underflow_nor_overflow_unseen(size):
    module, early_backward, scaler = linear(torch.float32), EarlyBackward(), Scaler()

    def compute(rounded=True):
        x = module(noise(64, 4, dtype=torch.float32))
        x = Float16Gradient.apply(x) if rounded else x
        return dict(loss_a=size * x.sin().mean(), loss_b=[size * x.square().mean()])

    exact = gradient_of(module, total(compute(rounded=False)))
    late = gradient_of(module, total(compute()))
    assert (size <= 1e-6) == (max((a - e).abs().max() / e.abs().max() for a, e in zip(late, exact)) > 0.1)
    done = 0
    for _ in range(12):
        gradients = scaler.step(total(early_backward(module, compute)), list(module.parameters()))
        if gradients is not None:
            done += 1
            for gradient, reference in zip(gradients, exact):
                torch.testing.assert_close(gradient, reference, rtol=4 * 2.**-11, atol=4 * 2.**-11 * reference.abs().max())
    assert done >= 4
    assert (scaler.skipped > 0) == (size == 1e3)
    assert early_backward.loss_scale <= 2 * scaler.scale


def test_the_loss_scale_rises_again_with_the_trainers():
    module, early_backward, scaler = linear(torch.float32), EarlyBackward(), Scaler(interval=3)
    scales = []
    for step in range(40):
        size = 3e4 if step == 0 else 100.
        losses = early_backward(module, lambda size=size: dict(
            loss=size * Float16Gradient.apply(module(noise(8, 4, dtype=torch.float32))).sum()))
        scaler.step(total(losses), list(module.parameters()))
        scales.append(scaler.scale)
    limit = torch.finfo(torch.float16).max / 100
    assert limit / 8 < min(scales[20:])
    assert max(scales[20:]) < 4 * limit
    assert scaler.skipped < 30


# -- Checkpointing, autocast, compilation ------------------------------------------------------------------------------


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_checkpoints_of_both_kinds_recompute_in_the_early_pass(use_reentrant):
    module = linear()
    encoder = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 3)).double().requires_grad_(False)
    calls = []
    encoder.register_forward_pre_hook(lambda *_: calls.append(1))

    def compute(checkpointed=True):
        x = module(noise(5, 4))
        x = torch.utils.checkpoint.checkpoint(encoder, x, use_reentrant=use_reentrant) if checkpointed else encoder(x)
        return dict(loss=x.square().mean())

    losses = EarlyBackward()(module, compute)
    assert len(calls) == 2
    assert_close(gradient_of(module, total(losses)), gradient_of(module, total(compute(False))), rtol=1e-9, atol=1e-12)
    assert len(calls) == 3
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_under_autocast_it_is_the_backward_pass_of_the_trainer():
    """A trainer leaves autocast before it differentiates."""
    module = linear(torch.float32)
    encoder = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3)).requires_grad_(False)
    modes = []

    def compute():
        x = encoder(module(noise(5, 4, dtype=torch.float32)))
        assert x.dtype == torch.bfloat16
        x.register_hook(lambda gradient: modes.append(encoder[0](torch.zeros(1, 3)).dtype))
        return dict(loss=x.float().square().mean())

    with torch.autocast('cpu', torch.bfloat16):
        early, late = EarlyBackward()(module, compute), compute()
    assert_close(gradient_of(module, total(early)), gradient_of(module, total(late)), rtol=2.**-8, atol=1e-6)
    assert modes == [torch.float32, torch.float32]


def test_a_compiled_model_learns_or_says_that_it_does_not():
    module = linear()
    compiled, early_backward = torch.compile(module, backend='aot_eager'), EarlyBackward()
    try:
        for _ in range(2):    # the second step runs what the first compiled
            losses = early_backward(module, lambda: dict(loss=compiled(noise(2, 4)).square().mean()))
            expected = gradient_of(module, module(noise(2, 4)).square().mean())
            assert_close(gradient_of(module, total(losses)), expected, rtol=1e-9, atol=1e-12)
    except RuntimeError as error:
        assert 'a compiled model needs a newer PyTorch' in str(error)    # noqa: PT017
        assert not hasattr(torch._dynamo.config, 'inline_inbuilt_nn_modules')
