"""A tuning step of a model whose weights are sharded over processes, against one process (docs/scaling.md)."""
import pytest
import torch
from mmengine.model import MMFullyShardedDataParallel
from mmengine.structures import PixelData
from mmengine.utils import digit_version
from mmseg.structures import SegDataSample
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from mspe_mm.benchmark.models import setr

PROCESSES = 2

pytestmark = [pytest.mark.slow, pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                                                   reason='tried with PyTorch 2.11; 2.1 is not promised')]


def small_setr():
    model = setr('micro', 32, tuning=dict(type='MixedResolutionObjective'), tune_base=True)
    return model.train()


def images_and_labels():
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(2 * PROCESSES):
        samples.append(SegDataSample(metainfo=dict(img_shape=(32, 32))))
        samples[-1].gt_sem_seg = PixelData(data=torch.randint(10, (1, 32, 32), generator=generator))
    return torch.randn(2 * PROCESSES, 3, 32, 32, generator=generator), samples


def backward(model, images, samples):
    """The gradients of a step, whose draws are those of one process for all images."""
    torch.manual_seed(0)
    losses = model(images, samples, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()


def optimizer_of(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=10.)


def tensors(model):
    return {name.replace('_fsdp_wrapped_module.', ''): p.detach().clone() for name, p in model.named_parameters()}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=PROCESSES)
    model = small_setr()
    whole = sum(p.numel() for p in model.parameters())
    model = MMFullyShardedDataParallel(
        model, use_orig_params=True, device_id=torch.device('cpu'),
        auto_wrap_policy=ModuleWrapPolicy({type(model.backbone.layers[0])}))
    optimizer = optimizer_of(model)
    held = sum(p.numel() for p in model.parameters())
    images, samples = images_and_labels()
    backward(model, images[rank::PROCESSES], samples[rank::PROCESSES])    # as torch's DistributedSampler splits them
    optimizer.step()
    with FullyShardedDataParallel.summon_full_params(model):
        torch.save((held / whole, tensors(model)), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_sharded_tuning_takes_the_step_of_one_process(tmp_path):
    torch.multiprocessing.spawn(process, (str(tmp_path), ), nprocs=PROCESSES)
    alone = small_setr()
    before, optimizer = tensors(alone), optimizer_of(alone)
    backward(alone, *images_and_labels())
    optimizer.step()
    shares = []
    for rank in range(PROCESSES):
        share, found = torch.load(tmp_path / f'{rank}.pth')
        shares.append(share)
        torch.testing.assert_close(found, tensors(alone), rtol=1e-5, atol=1e-5)
        changed = {name for name in before if not torch.equal(found[name], before[name])}
        assert len(changed) > 2    # of several kernels, though not all are drawn
        assert all('.kernels.' in name for name in changed)
        assert max((found[name] - before[name]).abs().max() for name in changed) > 1e-3    # far above the tolerance
    assert sum(shares) == pytest.approx(1, abs=0.01)    # each parameter is held once
