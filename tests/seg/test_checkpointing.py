"""Activation checkpointing (``with_cp`` of mmseg's backbones): the same gradients of tuning, from fewer activations."""
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.autograd.graph import saved_tensors_hooks

from mspe_mm.benchmark.models import setr


def step(tuning, with_cp):
    """Gradients of the kernels by name, and the number of values that were kept for a backward pass."""
    model = setr('micro', 32, tuning=tuning, with_cp=with_cp).train()
    torch.manual_seed(0)
    images, sample = torch.randn(2, 3, 32, 32), SegDataSample(metainfo=dict(img_shape=(32, 32)))
    sample.gt_sem_seg = PixelData(data=torch.randint(10, (1, 32, 32)))
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(images, [sample, sample], mode='loss')
    model.parse_losses(losses)[0].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sum(kept)


@pytest.mark.parametrize('tuning', [
    dict(), dict(objective='both'), dict(type='MixedResolutionObjective'),
    dict(type='MixedResolutionObjective', objective='distill')], ids=['task', 'both', 'mixed', 'mixed-distill'])
def test_recomputed_blocks_have_the_same_gradients(tuning):
    (plain, all_kept), (recomputed, kept) = (step(tuning, with_cp) for with_cp in (False, True))
    assert plain.keys() == recomputed.keys()
    assert all('.kernels.' in name for name in plain)
    assert any(gradient.abs().max() > 0 for gradient in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9)
    if 'type' in tuning:    # an early backward pass recomputes within the forward pass
        assert kept < all_kept
