"""The label-free objective: its distances, its teacher, and a gradient that is autograd's on a sum written out by hand."""
import pytest
import torch
import torch.nn.functional as F
from helpers import layer_of, noise, randomize, saved_bytes, summed_losses
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, Categorical
from torch.distributions import kl_divergence as kl

from mspe_mm.core import MultiResolutionObjective, freeze_all_but_kernels, tuning_mode
from mspe_mm.tuning.distillation import distillation_loss, feature_distance, logit_distance
from mspe_mm.tuning.factory import build_objective
from mspe_mm.tuning.token_grid_objective import TokenGridObjective
from mspe_mm.tuning.tuned_model import Outputs

GRID, CLASSES = (2, 3), 5
SIZES = st.lists(st.integers(1, 4), min_size=0, max_size=2)


class Model(nn.Module):
    """A patch embedding, a frozen encoder and a head; what it makes of images are logits or the features before them."""

    def __init__(self, **settings):
        super().__init__()
        self.patch_embed = layer_of(embed_dims=6, patch_size=8, grid_size=GRID, kernel_sizes=(2, 4, 8), **settings)
        self.encoder, self.head = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def tokens(self, images):
        return F.gelu(self.encoder(self.patch_embed(images)[0]))


def tuned(**settings) -> Model:
    """In float64, with kernels that differ from the pretrained one, in the next step of tuning."""
    model = randomize(Model(**settings).double())
    freeze_all_but_kernels(model, model.patch_embed)
    model.train()
    tuning_mode(model, model.patch_embed)
    return model


def logits_pass(model, labels):
    def forward(images):
        logits = model.head(model.tokens(images)).mT
        return Outputs(logits, lambda: dict(loss_ce=F.cross_entropy(logits, labels), acc=logits.mean()))
    return forward


def features_pass(model, labels):
    def forward(images):
        tokens = model.tokens(images)
        return Outputs((tokens, tokens[:, ::2]), lambda: dict(loss_ce=F.cross_entropy(model.head(tokens).mT, labels)))
    return forward


def task_losses(outputs):
    return outputs.context()


def kl_by_hand(student, teacher):
    p, q = teacher.softmax(1), student.softmax(1)
    return (p * (p.log() - q.log())).sum() / (student.shape[0] * student.shape[2])


def error_by_hand(student, teacher):
    return sum((s - t).norm()**2 / t.norm()**2 for s, t in zip(student, teacher)) / len(student)


PASSES = {'logits': (logits_pass, logit_distance, kl_by_hand), 'features': (features_pass, feature_distance, error_by_hand)}


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.mark.parametrize('compared', PASSES)
@pytest.mark.parametrize('tune_base', [False, True])
@pytest.mark.parametrize('with_task', [False, True])
@pytest.mark.parametrize('parameterization', ['native', 'residual'])
def test_the_gradient_is_that_of_the_summed_loss(compared, tune_base, with_task, parameterization):
    make_pass, distance, by_hand = PASSES[compared]
    model = tuned(tune_base=tune_base, parameterization=parameterization)
    images, labels = noise(2, 3, 16, 24), torch.randint(CLASSES, (2, 6))
    layer, theta, forward = model.patch_embed, list(model.patch_embed.kernels.parameters()), make_pass(model, labels)

    stock = F.conv2d(images, layer.base.weight, layer.base.bias, stride=8).flatten(2).mT    # never a kernel of the layer
    tokens = F.gelu(model.encoder(stock)).detach()
    teacher = model.head(tokens).mT if compared == 'logits' else (tokens, tokens[:, ::2])

    def by_the_book(small):
        outputs = forward(small)
        return {**(task_losses(outputs) if with_task else {}), 'loss_distill': by_hand(outputs.compared, teacher)}

    loss = distillation_loss(layer, images, forward, distance, task_losses if with_task else None)
    losses = MultiResolutionObjective(0.3, sampling='native')(layer, images, loss)
    expected = summed_losses(layer, images, by_the_book, 0.3)
    assert losses.keys() == expected.keys()
    assert ('base.loss_distill' in losses) == tune_base
    assert ('k2.loss_ce' in losses) == with_task
    torch.testing.assert_close(total(losses), total(expected), rtol=1e-9, atol=1e-9)
    for gradient, reference in zip(torch.autograd.grad(total(losses), theta), torch.autograd.grad(total(expected), theta)):
        assert reference.abs().max() > 1e-4
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-9)


def test_one_pass_teaches_all_students_of_a_step_and_leaves_nothing_behind():
    model, seen = tuned(tune_base=True), []
    images, forward = noise(2, 3, 16, 24), logits_pass(model, torch.zeros(2, 6, dtype=torch.long))
    model.encoder.register_forward_hook(lambda _, inputs, out: seen.append(out.requires_grad))
    with saved_bytes(model) as count:
        loss = distillation_loss(model.patch_embed, images, forward, logit_distance, task_losses)
        assert (count.now, count.peak) == (0, 0)
    MultiResolutionObjective()(model.patch_embed, images, loss)
    assert seen == [False] + 4 * [True]


def test_all_passes_need_the_memory_of_the_largest():
    model = tuned(tune_base=True)
    images, forward = noise(2, 3, 16, 24), logits_pass(model, torch.zeros(2, 6, dtype=torch.long))
    loss, single = distillation_loss(model.patch_embed, images, forward, logit_distance, task_losses), []

    def measured(small):
        with saved_bytes(model) as count:
            losses = loss(small)
            single.append(count.now)
            del losses
        return loss(small)

    objective = MultiResolutionObjective(sampling='native')
    objective(model.patch_embed, images, measured)
    with saved_bytes(model) as count:
        objective(model.patch_embed, images, loss)
        assert count.now == 0
    assert len(single) == 4
    assert 0 < count.peak <= 1.15 * max(single)


def test_an_untuned_base_kernel_is_its_own_teacher():
    model = tuned(tune_base=True)
    model.patch_embed.reset_kernels()
    images, forward = noise(2, 3, 16, 24), logits_pass(model, None)
    loss = distillation_loss(model.patch_embed, images, forward, logit_distance)
    assert loss(images)['loss_distill'].abs() < 1e-12
    model.patch_embed.kernels['8'].weight.data.add_(0.1)
    assert loss(images)['loss_distill'] > 1e-6


# -- Distances ---------------------------------------------------------------------------------------------------------


@given(SIZES, st.integers(2, 5), st.integers(0, 100))
def test_the_distance_of_logits_is_the_mean_kullback_leibler_divergence(size, classes, seed):
    student, teacher = (3 * noise(2, classes, *size, seed=seed + i) for i in (0, 1))
    expected = kl(*(Categorical(logits=logits.movedim(1, -1)) for logits in (teacher, student))).mean()
    torch.testing.assert_close(logit_distance(student, teacher), expected, rtol=1e-9, atol=1e-12)
    assert logit_distance(student, student).abs() < 1e-12


def test_a_single_class_is_a_sigmoids():
    student, teacher = 3 * noise(2, 1, 4, 4), 3 * noise(2, 1, 4, 4, seed=1)
    expected = kl(Bernoulli(logits=teacher), Bernoulli(logits=student)).mean()
    torch.testing.assert_close(logit_distance(student, teacher), expected, rtol=1e-9, atol=1e-12)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(1e-3, 1e3))
def test_the_distance_of_features_is_relative_and_a_mean_over_levels(sizes, factor):
    teacher = [noise(2, 3, size, size + 1, seed=i) for i, size in enumerate(sizes)]
    student = [level + 0.1 * (i + 1) * level.flip(0) for i, level in enumerate(teacher)]    # |flip(t)| = |t|
    expected = torch.tensor([0.01 * (i + 1)**2 for i in range(len(sizes))], dtype=torch.float64).mean()
    torch.testing.assert_close(feature_distance(student, teacher), expected, rtol=1e-9, atol=0)
    scaled = [[factor * level for level in levels] for levels in (student, teacher)]
    torch.testing.assert_close(feature_distance(*scaled), expected, rtol=1e-9, atol=0)


def test_features_that_are_zero_are_no_division_by_zero():
    zero = [torch.zeros(1, 2, 3, 3)]
    assert feature_distance(zero, zero) == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    student, teacher = (100 * noise(2, 8, 16, 16, seed=i).to(dtype) for i in (0, 1))    # squares beyond float16
    for distance, wrap in ((logit_distance, lambda x: x), (feature_distance, lambda x: [x])):
        actual = distance(wrap(student), wrap(teacher))
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), distance(wrap(student.double()), wrap(teacher.double())),
                                   rtol=1e-5, atol=0)


def test_other_grids_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(1, 5, 2, 3\).*\(1, 5, 3, 3\).*kernel_policy='fixed'"):
        logit_distance(torch.zeros(1, 5, 3, 3), torch.zeros(1, 5, 2, 3))
    with pytest.raises(ValueError, match=r'\(1, 5, 2, 3\).*\(1, 5, 3, 3\)'):
        feature_distance([torch.zeros(1, 5, 3, 3)], [torch.zeros(1, 5, 2, 3)])


# -- The layer as the teacher has it -----------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(16, 24), (8, 12), (7, 30)])
@pytest.mark.parametrize('training', [False, True])
def test_with_the_pretrained_kernel_alone_the_layer_is_the_untrained_one(size, training):
    layer = tuned(tune_base=True).patch_embed.train(training).requires_grad_(False)
    images = noise(2, 3, *size)
    before = layer(images)[0]
    with layer.pretrained_only():
        assert torch.equal(layer(images)[0], layer.single_kernel('fixed')(images)[0])
    assert torch.equal(layer(images)[0], before)
    assert not torch.equal(layer.single_kernel('fixed')(images)[0], before)


def test_the_kernels_are_back_when_the_teacher_fails():
    layer = tuned().patch_embed
    kernels = layer.kernels
    with pytest.raises(ZeroDivisionError), layer.pretrained_only():
        1 / 0    # noqa: B018
    assert layer.kernels is kernels
    assert list(layer.state_dict()) == list(Model().patch_embed.state_dict())


# -- Settings ----------------------------------------------------------------------------------------------------------


def test_objectives_are_named():
    assert build_objective(dict(objective='both')).objective == 'both'
    assert build_objective({}).objective == 'task'
    assert TokenGridObjective([4]).objective == 'task'
    with pytest.raises(ValueError, match=r"objective 'labels'.*task, distill, both"):
        MultiResolutionObjective(objective='labels')
    assert build_objective(dict(token_grids=[2], objective='distill')).at_base
