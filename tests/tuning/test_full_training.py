"""Every resolution of every batch has its loss."""
import pytest
import torch
from helpers import noise

from mspe_mm.core import resize_image
from mspe_mm.tuning.full_training import MultiResolutionTraining


def test_losses_are_those_of_the_resized_images():
    images = noise(2, 3, 20, 24)
    losses = MultiResolutionTraining([8, (10, 12), 20])(images, lambda x: dict(loss=x.square().mean(), acc=x.max()))
    assert list(losses) == ['r8x8.loss', 'r8x8.acc', 'r10x12.loss', 'r10x12.acc', 'r20x20.loss', 'r20x20.acc']
    for name, size in (('r8x8', (8, 8)), ('r10x12', (10, 12)), ('r20x20', (20, 20))):
        resized = resize_image(images, size)
        assert torch.equal(losses[f'{name}.loss'], resized.square().mean())
        assert torch.equal(losses[f'{name}.acc'], resized.max())


@pytest.mark.parametrize('resolutions', [[], [0], [(8, 0)], [(8, 8, 8)]])
def test_what_is_no_resolution_is_refused(resolutions):
    with pytest.raises(ValueError, match='resolutions must be positive numbers of pixels'):
        MultiResolutionTraining(resolutions)
