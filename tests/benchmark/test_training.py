"""All ways to train see the same passes; those of the package and of one graph have the same gradients."""
from functools import partial

import pytest
import torch

from mspe_mm.benchmark import trainees
from mspe_mm.benchmark.ratios import Settings
from mspe_mm.benchmark.training import by_the_package, in_one_graph, one_after_the_other, the_largest_alone, total, training
from mspe_mm.core import resize_image

SETTINGS = Settings(batch_size=2)


@pytest.fixture(autouse=True)
def _small(small):
    pass


def make(name, tuned=True, **kwargs):
    return getattr(trainees, f'{name}_trainee')('tiny', 32, tuned, SETTINGS, **kwargs)


def gradients(trainee):
    return {name: p.grad for name, p in trainee.layer.kernels.named_parameters()}


def seen_sizes(trainee):
    """Sizes of the images that the MSPE layer sees."""
    sizes = []
    trainee.layer.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape[-2:])))
    return sizes


@pytest.mark.parametrize('name', ['setr', 'vitdet', 'mask_rcnn'])
@pytest.mark.slow
def test_the_packages_step_is_the_sum_of_the_losses(name):
    ours, peer = make(name), make(name)
    sizes, peer_sizes = seen_sizes(ours), seen_sizes(peer)
    loss, expected = by_the_package(ours, 3, SETTINGS), in_one_graph(peer, 3, SETTINGS)
    assert len(sizes) == 4
    assert sizes == peer_sizes
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradients(ours), gradients(peer)
    assert len(found) == 8    # weight and bias of four kernels
    for key, gradient in found.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-3, atol=1e-4 * float(wanted[key].abs().max()))


def test_the_peers_backbone_on_our_layer():
    ours, peer = make('vitdet'), make('vitdet', peer=True)
    loss, expected = by_the_package(ours, 3, SETTINGS), in_one_graph(peer, 3, SETTINGS)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for key, gradient in gradients(ours).items():
        wanted = gradients(peer)[key]
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize('name', ['setr', 'vitdet'])
def test_tuning_leaves_the_rest_alone_and_full_fine_tuning_does_not(name):
    for tuned, way in ((True, in_one_graph), (True, the_largest_alone), (False, one_after_the_other)):
        trainee = make(name, tuned)
        way(trainee, 0, SETTINGS)
        outside = [p.grad for key, p in trainee.model.named_parameters() if '.kernels.' not in key and p.grad is not None]
        assert (len(outside) == 0) if tuned else (len(outside) > 40)


@pytest.mark.parametrize('seed', range(3))
def test_the_largest_alone_is_one_of_the_passes(seed):
    trainee = make('setr')
    passes = trainee.passes(seed)
    sizes = seen_sizes(trainee)
    the_largest_alone(trainee, seed, SETTINGS)
    assert sizes == [max(size for _, size in passes)]


def test_passes_differ_from_round_to_round_and_repeat_with_the_seed():
    trainee = make('setr')
    drawn = [trainee.passes(seed) for seed in range(10)]
    assert [trainee.passes(seed) for seed in range(10)] == drawn
    assert len({tuple(passes) for passes in drawn}) > 3
    assert all([index for index, _ in passes] == [0, 1, 2, 3] for passes in drawn)


def test_one_pass_is_the_hosts_loss():
    """With the kernel and the resolution that it is told, and without Eq. 7."""
    trainee = make('setr')
    with trainee.layer.force_kernel(2):
        expected = total(trainee.losses(resize_image(trainee.images, (20, 20))))
    assert torch.equal(trainee.one_pass(2, (20, 20)), expected)
    assert len(trainee.tuning_losses()) > len(trainee.losses(trainee.images))    # and the model still has Eq. 7


def test_a_step_updates_and_forgets_the_gradients():
    trainee = make('setr')
    before = trainee.layer.kernels['8'].weight.clone()
    step = training(lambda: trainee, by_the_package, SETTINGS)
    assert torch.isfinite(step(0))
    assert not torch.equal(trainee.layer.kernels['8'].weight, before)
    assert all(p.grad is None for p in trainee.model.parameters())


@pytest.mark.parametrize('name', ['setr', 'mask_rcnn'])
@pytest.mark.slow
def test_mixed_precision(name):
    settings = Settings(dtype=torch.bfloat16)
    trainee = getattr(trainees, f'{name}_trainee')('tiny', 32, True, settings)
    loss = training(partial(lambda: trainee), by_the_package, settings)(0)
    assert torch.isfinite(loss)
