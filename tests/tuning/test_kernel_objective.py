"""What is frozen, and that the objective's gradient is plain autograd's on a sum of losses written out by hand."""
import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from helpers import layer_of, noise, randomize, saved_bytes, summed_losses
from mmengine.optim import OptimWrapper
from torch import nn

from mspe_mm.core import (
    MultiResolutionObjective,
    MultiScalePatchEmbed,
    freeze_all_but_kernels,
    resize_matrix,
    sampling_range,
    tuning_mode,
)

GRID = (2, 3)
KERNELS = (2, 4, 8)
CLASSES = 5


class Model(nn.Module):
    """A patch embedding, an encoder with everything that differs between training and evaluation, and a head."""

    def __init__(self, **settings):
        super().__init__()
        self.patch_embed = layer_of(embed_dims=6, patch_size=8, grid_size=GRID, kernel_sizes=KERNELS, **settings)
        self.encoder = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Conv2d(6, CLASSES, 1), nn.BatchNorm2d(CLASSES))

    def forward(self, images):
        tokens, grid = self.patch_embed(images)
        return self.head(self.encoder(tokens).mT.unflatten(2, grid))


def make_model(**settings) -> Model:
    """A tuned model in float64, ready for the next step of tuning."""
    model = randomize(Model(**settings).double())
    freeze_all_but_kernels(model, model.patch_embed)
    model.train()
    tuning_mode(model, model.patch_embed)
    return model


def task_loss_of(model, labels, seen=None):
    def task_loss(images):
        if seen is not None:
            seen.append(tuple(images.shape[-2:]))
        logits = model(images)
        return dict(loss_ce=F.cross_entropy(logits, labels), loss_aux=[logits.square().mean(), logits.abs().mean()],
                    acc=(logits.argmax(1) == labels).double().mean())
    return task_loss


def total(losses):
    """What the trainer minimises: the sum of everything with ``loss`` in its name."""
    return sum(sum(v) if isinstance(v, list) else v for name, v in losses.items() if 'loss' in name)


# -- An independent Eq. 7: resizing by dense matrices, patches cut out by hand, no layer and no objective --------------


def dense_pi_resize(weight, size):
    matrix = torch.kron(resize_matrix(size[0], weight.shape[-2]), resize_matrix(size[1], weight.shape[-1]))
    return (weight.flatten(-2) @ torch.linalg.pinv(matrix)).unflatten(-1, size)


def loss_by_hand(model, images, labels, weight, bias):
    """The task's losses with the tokens of a patch kernel of the size that keeps the grid."""
    patches = images.unfold(2, weight.shape[-2], weight.shape[-2]).unfold(3, weight.shape[-1], weight.shape[-1])
    tokens = torch.einsum('bcyxhw,dchw->byxd', patches, weight) + bias
    hidden = F.gelu(F.linear(tokens, model.encoder[0].weight, model.encoder[0].bias))
    convolution, norm = model.head
    logits = F.linear(hidden, convolution.weight[:, :, 0, 0], convolution.bias)
    logits = (logits - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    return F.cross_entropy(logits.permute(0, 3, 1, 2), labels) + logits.square().mean() + logits.abs().mean()


def eq_7_by_hand(model, images, labels, sizes, base_weight):
    """``sizes``: the patch size of every tunable kernel."""
    layer = model.patch_embed
    loss = 0
    for k, size in sizes.items():
        resized = resize_matrix(size[0] * GRID[0], 8 * GRID[0]) @ images @ resize_matrix(size[1] * GRID[1], 8 * GRID[1]).T
        own = layer.kernels[str(k)]
        weight, bias = dense_pi_resize(own.weight, size), own.bias
        if layer.parameterization == 'residual':
            weight, bias = weight + dense_pi_resize(layer.base.weight, size), bias + layer.base.bias
        loss = loss + loss_by_hand(model, resized, labels, weight, bias)
    if '8' in layer.kernels:
        own = layer.kernels['8']
        weight, bias = own.weight, own.bias
        if layer.parameterization == 'residual':
            weight, bias = weight + layer.base.weight, bias + layer.base.bias
        loss = loss + base_weight * loss_by_hand(model, images, labels, weight, bias)
    return loss


@pytest.mark.parametrize('parameterization', ['native', 'residual'])
@pytest.mark.parametrize('tune_base', [False, True])
@pytest.mark.parametrize(('sampling', 'aspect_jitter'), [('double', False), ('double', True), ('partition', False)])
@pytest.mark.parametrize('base_weight', [0.0, 1.0, 0.3])
def test_the_gradient_is_that_of_the_summed_loss(parameterization, tune_base, sampling, aspect_jitter, base_weight):
    model = make_model(parameterization=parameterization, tune_base=tune_base)
    images, labels = noise(2, 3, 16, 24), torch.randint(CLASSES, (2, *GRID))
    theta, seen = list(model.patch_embed.kernels.parameters()), []

    objective = MultiResolutionObjective(base_weight, sampling, aspect_jitter)
    loss = total(objective(model.patch_embed, images, task_loss_of(model, labels, seen)))
    gradients = torch.autograd.grad(loss, theta)

    tuned = [k for k in KERNELS if k != 8 or tune_base]
    sizes = {k: (height // GRID[0], width // GRID[1]) for k, (height, width) in zip(tuned, seen)}
    for k, size in sizes.items():
        low, high = sampling_range(KERNELS, KERNELS.index(k), sampling)
        assert low <= min(size) <= max(size) <= high
    expected = eq_7_by_hand(model, images, labels, sizes, base_weight)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, theta)):
        assert reference.abs().max() > 1e-3
        torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-9)


# -- Passes and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('tune_base', 'base_weight', 'names'), [
    (False, 1.0, ['k2', 'k4']),
    (True, 1.0, ['k2', 'k4', 'k8', 'base']),
    (True, 0.0, ['k2', 'k4', 'k8']),
])
def test_a_frozen_base_kernel_costs_no_pass(tune_base, base_weight, names):
    model = make_model(tune_base=tune_base)
    seen = []
    losses = MultiResolutionObjective(base_weight)(
        model.patch_embed, noise(2, 3, 16, 24), task_loss_of(model, torch.zeros(2, *GRID, dtype=torch.long), seen))
    assert list(losses) == [f'{name}.{loss}' for name in names for loss in ('loss_ce', 'loss_aux', 'acc')]
    assert len(seen) == len(names)
    assert 'base' not in names or seen[-1] == (16, 24)


def test_lambda_scales_the_losses_of_the_base_term_and_not_what_is_only_logged():
    model = make_model(tune_base=True)
    images, labels = noise(2, 3, 16, 24), torch.randint(CLASSES, (2, *GRID))
    scaled = MultiResolutionObjective(0.25)(model.patch_embed, images, task_loss_of(model, labels))
    plain = task_loss_of(model, labels)(images)
    torch.testing.assert_close(scaled['base.loss_ce'], 0.25 * plain['loss_ce'])
    torch.testing.assert_close(scaled['base.loss_aux'], [0.25 * value for value in plain['loss_aux']])
    assert scaled['base.acc'] == plain['acc'] > 0


def test_every_kernel_sees_resolutions_of_its_own_range_that_keep_the_grid():
    model = make_model()
    seen = []

    def task_loss(images):
        seen.append((images.shape[-2] / GRID[0], images.shape[-1] / GRID[1]))
        assert model.patch_embed(images)[1] == GRID
        return {}

    for _ in range(100):
        MultiResolutionObjective(aspect_jitter=True)(model.patch_embed, noise(1, 3, 16, 24), task_loss)
    for patches, expected in [(seen[::2], {1, 2, 3, 4}), (seen[1::2], {2, 3, 4, 5, 6, 7, 8})]:    # of kernels 2 and 4
        heights, widths = zip(*patches)
        assert set(heights) == set(widths) == expected
        assert heights != widths


def test_images_that_are_no_multiple_of_the_grid_are_resized_in_proportion():
    model = make_model()
    seen = []

    def task_loss(images):
        seen.append(tuple(images.shape[-2:]))
        return {}

    for _ in range(40):
        MultiResolutionObjective()(model.patch_embed, noise(1, 3, 19, 25), task_loss)
    assert set(seen) == {(round(19 * p / 8), round(25 * p / 8)) for p in range(1, 9)}


def test_the_forced_kernel_is_given_back_when_the_task_fails():
    model = make_model()

    def task_loss(images):
        raise RuntimeError('no labels')

    with pytest.raises(RuntimeError, match='no labels'):
        MultiResolutionObjective()(model.patch_embed, noise(1, 3, 16, 24), task_loss)
    base, own = model.patch_embed.base, model.patch_embed.kernels['4']
    weight = dense_pi_resize(base.weight, (4, 4)) + own.weight
    expected = F.conv2d(noise(1, 3, 8, 12), weight, base.bias + own.bias, stride=4).flatten(2).mT
    torch.testing.assert_close(model.patch_embed(noise(1, 3, 8, 12))[0], expected)


@pytest.mark.parametrize(('settings', 'culprit'), [(dict(sampling='all'), "sampling 'all'.*partition"),
                                                   (dict(base_weight=-1.0), r'base_weight.*-1\.0')])
def test_settings_that_make_no_sense_are_refused_by_name(settings, culprit):
    with pytest.raises(ValueError, match=culprit):
        MultiResolutionObjective(**settings)


# -- One pass after another --------------------------------------------------------------------------------------------


def leaves(tensor) -> set:
    """The tensors that a backward pass through ``tensor`` would reach."""
    reached, nodes, seen = set(), [tensor.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            reached |= {node.variable} if hasattr(node, 'variable') else set()
            nodes += [following for following, _ in node.next_functions]
    return reached


def test_a_pass_leaves_its_values_and_the_gradient_of_the_kernels():
    model = make_model(tune_base=True)
    alive, counts = [], []
    for module in (model.patch_embed, *model.encoder, *model.head):
        module.register_forward_hook(lambda _, inputs, output: alive.extend(
            weakref.ref(tensor) for tensor in (inputs[0], output[0] if isinstance(output, tuple) else output)))
    images, labels = noise(2, 3, 16, 24), torch.randint(CLASSES, (2, *GRID))
    task_loss = task_loss_of(model, labels)

    def counting_loss(x):
        counts.append(sum(ref() is not None for ref in alive))
        return task_loss(x)

    losses = MultiResolutionObjective()(model.patch_embed, images, counting_loss)
    counts.append(sum(ref() is not None and ref() is not images for ref in alive))
    assert counts == [0] * 5    # before each of the four passes, and after the last
    assert len(alive) == 4 * 6 * 2
    assert all(parameter.grad is None for parameter in model.parameters())
    assert leaves(total(losses)) == set(model.patch_embed.kernels.parameters())
    total(losses).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if '.kernels.' in name}


def test_all_passes_need_the_memory_of_the_largest():
    model = make_model(tune_base=True)
    images, labels = noise(2, 3, 16, 24), torch.randint(CLASSES, (2, *GRID))
    single = []

    def task_loss(x):
        with saved_bytes(model) as count:
            losses = task_loss_of(model, labels)(x)
            single.append(count.now)
            del losses
        assert count.now == 0
        return task_loss_of(model, labels)(x)

    objective = MultiResolutionObjective(sampling='native')
    objective(model.patch_embed, images, task_loss)
    with saved_bytes(model) as count:
        losses = objective(model.patch_embed, images, task_loss_of(model, labels))
        assert count.now == 0
        total(losses).backward()
    assert len(single) == 4
    assert min(single) > 1000
    assert count.peak <= 1.15 * max(single)
    with saved_bytes(model) as straightforward:
        losses = summed_losses(model.patch_embed, images, task_loss_of(model, labels))
    shared = images.nbytes    # the last two passes both keep the batch at the base resolution
    assert straightforward.peak > 0.9 * (sum(single) - shared)


def test_it_is_the_sum_of_the_losses_under_autocast_too():
    model = make_model(tune_base=True).float()
    images, labels = noise(2, 3, 16, 24, dtype=torch.float32), torch.randint(CLASSES, (2, *GRID))
    theta, results = list(model.patch_embed.kernels.parameters()), []
    for objective in (MultiResolutionObjective(sampling='native'), summed_losses):
        with torch.autocast('cpu', torch.bfloat16):
            losses = objective(model.patch_embed, images, task_loss_of(model, labels))
        results.append([total(losses), *torch.autograd.grad(total(losses), theta)])
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, rtol=2.**-8, atol=2.**-8 * expected.abs().max().item())


@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.1)])
def test_gradients_accumulate_and_are_clipped_as_those_of_the_whole_batch(clip_grad):
    whole = make_model(tune_base=True)
    halves, start = copy.deepcopy(whole), copy.deepcopy(whole.state_dict())
    images, labels = noise(4, 3, 16, 24), torch.randint(CLASSES, (4, *GRID))
    for model, objective, parts in ((whole, summed_losses, [slice(0, 4)]),
                                    (halves, MultiResolutionObjective(sampling='native'), [slice(0, 2), slice(2, 4)])):
        optimizer = torch.optim.SGD(model.patch_embed.kernels.parameters(), lr=0.5)
        wrapper = OptimWrapper(optimizer, clip_grad=clip_grad, accumulative_counts=len(parts))
        wrapper.initialize_count_status(model, 0, 2 * len(parts))
        for _ in range(2):
            for part in parts:
                with wrapper.optim_context(model):
                    losses = objective(model.patch_embed, images[part], task_loss_of(model, labels[part]))
                wrapper.update_params(total(losses))
    for (name, actual), expected in zip(halves.state_dict().items(), whole.state_dict().values()):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9, msg=name)
    moved = sum((value - start[name]).square().sum() for name, value in halves.state_dict().items()).sqrt()
    assert (moved <= 2 * 0.5 * 0.1 + 1e-6) == (clip_grad is not None)


def test_a_task_without_a_loss_is_returned_as_it_is():
    model = make_model()
    losses = MultiResolutionObjective()(model.patch_embed, noise(2, 3, 16, 24), lambda x: dict(
        loss_none=x.new_zeros(()), loss_list=[], acc=model(x).mean()))
    assert not total(losses).requires_grad
    assert losses['k2.acc'].requires_grad


def test_a_loss_for_validation_has_no_gradient():
    model = make_model()
    with torch.no_grad():
        losses = MultiResolutionObjective()(
            model.patch_embed, noise(2, 3, 16, 24), task_loss_of(model, torch.zeros(2, *GRID, dtype=torch.long)))
    assert total(losses) > 0
    assert not total(losses).requires_grad


# -- What is frozen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('tune_base', [False, True])
def test_only_the_kernels_require_a_gradient(tune_base):
    model = Model(tune_base=tune_base)
    freeze_all_but_kernels(model, model.patch_embed)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    sizes = (2, 4, 8) if tune_base else (2, 4)
    assert trainable == {f'patch_embed.kernels.{k}.{name}' for k in sizes for name in ('weight', 'bias')}


def test_nothing_to_tune_is_refused_with_the_kernel_sizes():
    model = nn.ModuleDict(dict(patch_embed=MultiScalePatchEmbed(3, 6, 8, GRID, (8, ))))
    with pytest.raises(ValueError, match=r'kernel_sizes=\(8,\)'):
        freeze_all_but_kernels(model, model['patch_embed'])


def test_in_tuning_all_but_the_layer_is_in_eval_mode():
    model = Model().train()
    tuning_mode(model, model.patch_embed)
    layer = set(model.patch_embed.modules())
    assert all(module.training == (module in layer or module is model) for module in model.modules())


def test_a_step_of_tuning_moves_every_kernel_and_nothing_else():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        optimizer.zero_grad()
        labels = torch.randint(CLASSES, (2, *GRID))
        total(MultiResolutionObjective()(model.patch_embed, noise(2, 3, 16, 24), task_loss_of(model, labels))).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith('patch_embed.kernels.'), name
