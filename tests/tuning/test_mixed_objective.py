"""One pass a step: its gradient is that of the images one by one, and every kernel has its share of the batch."""
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import layer_of, noise, randomize
from torch import nn

from mspe_mm.layers.resolution import sampling_range
from mspe_mm.tuning.factory import build_objective
from mspe_mm.tuning.freezing import freeze_all_but_kernels
from mspe_mm.tuning.mixed_objective import MixedResolutionObjective

GRID, KERNELS = (2, 3), (2, 4, 8)


class Model(nn.Module):

    def __init__(self, **settings):
        super().__init__()
        self.patch_embed = layer_of(embed_dims=6, patch_size=8, grid_size=GRID, kernel_sizes=KERNELS, **settings)
        self.head = nn.Linear(6, 5)

    def forward(self, images):
        return self.head(torch.tanh(self.patch_embed(images)[0]))


def make_model(**settings) -> Model:
    model = randomize(Model(**settings).double())
    freeze_all_but_kernels(model, model.patch_embed)
    return model


def seen_by(model, monkeypatch):
    """What the layer embeds in the next step, in the order of the batch: [(image, index of its kernel)]."""
    seen, plain = [], type(model.patch_embed).embedding_each

    def recording(layer, images, kernels=None):
        seen.extend(zip(images, kernels))
        return plain(layer, images, kernels)

    monkeypatch.setattr(type(model.patch_embed), 'embedding_each', recording)
    return seen


@pytest.mark.parametrize('sampling', ['partition', 'double', 'native'])
@pytest.mark.parametrize('aspect_jitter', [False, True])
@pytest.mark.parametrize('parameterization', ['native', 'residual', 'relative'])
def test_the_gradient_is_the_mean_over_single_images(sampling, aspect_jitter, parameterization, monkeypatch):
    model = make_model(parameterization=parameterization)
    layer, seen = model.patch_embed, seen_by(model, monkeypatch)
    images, labels = noise(5, 3, 16, 24), torch.randint(5, (5, 6))
    theta = list(layer.kernels.parameters())

    def loss_of(logits, labels):
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    losses = MixedResolutionObjective(sampling, aspect_jitter)(
        layer, images, lambda x: dict(loss_ce=loss_of(model(x), labels)))
    gradients = torch.autograd.grad(losses['loss_ce'], theta)

    alone = 0
    for (image, index), label in zip(seen, labels):
        with layer.force_kernel(index):
            alone = alone + loss_of(model(image), label[None]) / len(images)
    for actual, expected in zip(gradients, torch.autograd.grad(alone, theta)):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(('tune_base', 'trained'), [(False, [0, 1]), (True, [0, 1, 2])])
def test_every_trained_kernel_has_its_share_of_the_batch(tune_base, trained, monkeypatch):
    model = make_model(tune_base=tune_base)
    seen = seen_by(model, monkeypatch)
    MixedResolutionObjective('partition')(model.patch_embed, noise(7, 3, 16, 24), lambda x: dict(loss=model(x).sum()))
    counts = [sum(index == kernel for _, index in seen) for kernel in range(len(KERNELS))]
    assert sum(counts) == 7
    assert [kernel for kernel, count in enumerate(counts) if count] == trained
    assert max(counts[kernel] for kernel in trained) - min(counts[kernel] for kernel in trained) <= 1


@pytest.mark.parametrize('sampling', ['partition', 'double', 'native'])
def test_resolutions_are_drawn_from_the_range_of_the_kernel(sampling, monkeypatch):
    model = make_model()
    seen = seen_by(model, monkeypatch)
    for _ in range(20):
        MixedResolutionObjective(sampling)(model.patch_embed, noise(4, 3, 16, 24), lambda x: dict(loss=model(x).sum()))
    for kernel in (0, 1):
        patches = {image.shape[-2] // GRID[0] for image, index in seen if index == kernel}
        low, high = sampling_range(KERNELS, kernel, sampling)
        assert patches == set(range(low, high + 1))


def test_which_image_has_which_kernel_changes_from_step_to_step(monkeypatch):
    model = make_model()
    seen = seen_by(model, monkeypatch)
    for _ in range(12):
        MixedResolutionObjective()(model.patch_embed, noise(2, 3, 16, 24), lambda x: dict(loss=model(x).sum()))
    assert {index for _, index in seen[::2]} == {0, 1}


def test_a_batch_of_one_image_has_any_kernel(monkeypatch):
    model = make_model()
    seen = seen_by(model, monkeypatch)
    for _ in range(16):
        MixedResolutionObjective()(model.patch_embed, noise(1, 3, 16, 24), lambda x: dict(loss=model(x).sum()))
    assert {index for _, index in seen} == {0, 1}


@pytest.mark.parametrize('processes', [2, 3])
def test_processes_draw_what_one_draws_for_the_images_of_all(processes, monkeypatch):
    model = make_model()
    seen = seen_by(model, monkeypatch)
    images = noise(6, 3, 16, 24)

    def step(images):
        seen.clear()
        torch.manual_seed(3)
        MixedResolutionObjective('double', True)(model.patch_embed, images, lambda x: dict(loss=model(x).sum()))
        return [*seen]

    whole = step(images)
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_world_size', lambda: processes)
    for rank in range(processes):    # as samplers share the images out
        monkeypatch.setattr(dist, 'get_rank', lambda rank=rank: rank)
        for (image, kernel), (expected, own) in zip(step(images[rank::processes]), whole[rank::processes], strict=True):
            assert kernel == own
            assert torch.equal(image, expected)


def test_the_factory_builds_it_by_its_name():
    objective = build_objective(dict(type='MixedResolutionObjective', objective='both', sampling='native'))
    assert objective == MixedResolutionObjective(sampling='native', objective='both')
    with pytest.raises(ValueError, match='partition'):
        build_objective(dict(type='MixedResolutionObjective', sampling='partitions'))


GRIDS = [(1, 2), (2, 2)]    # beside the base grid of 2 x 3


def grids_of_steps(model, monkeypatch, seen):
    """The token grid of each step, beside what the layer embeds in it."""
    grids, plain = [], type(model.patch_embed).stand_in
    monkeypatch.setattr(type(model.patch_embed), 'stand_in', lambda layer, images: (
        grids.append((layer.grid_for((16, 24)), seen[-len(images):])), plain(layer, images))[1])
    return grids


def test_a_step_has_one_grid_and_the_kernels_and_resolutions_of_it(monkeypatch):
    model = make_model(token_grids=GRIDS)
    theta = dict(model.patch_embed.kernels.named_parameters())
    steps = grids_of_steps(model, monkeypatch, seen_by(model, monkeypatch))
    for _ in range(30):
        losses = MixedResolutionObjective('native')(
            model.patch_embed, noise(4, 3, 16, 24), lambda x: dict(loss=model(x).square().sum()))
        moved = dict(zip(theta, torch.autograd.grad(losses['loss'], theta.values(), allow_unused=True)))
        grid, seen = steps[-1]
        own = '' if grid == GRID else f'g{grid[0]}x{grid[1]}'
        assert {name for name, gradient in moved.items() if gradient is not None} == {
            f'{KERNELS[index]}{own}.{part}' for _, index in seen for part in ('weight', 'bias')}
        for image, index in seen:
            assert tuple(image.shape[-2:]) == (KERNELS[index] * grid[0], KERNELS[index] * grid[1])
    assert {grid for grid, _ in steps} == {GRID, *GRIDS}


def test_without_other_grids_nothing_more_is_drawn():
    model, states = make_model(), []
    for objective_draws in (False, True):
        torch.manual_seed(0)
        if objective_draws:
            MixedResolutionObjective('native')(model.patch_embed, noise(3, 3, 16, 24), lambda x: dict(loss=model(x).sum()))
        else:
            torch.randint(2, ())
            torch.randperm(3)
            for _ in range(3):
                torch.randint(2, 3, (2, ))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
