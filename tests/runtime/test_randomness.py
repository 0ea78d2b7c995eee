"""Random numbers of a training depend on the seed and the place in it, not on who draws them."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from mspe_mm.runtime import randomness
from mspe_mm.runtime.randomness import RandomStateHook, SeededSampler, seed_samples


class Drawing(Dataset):
    """Its samples are random numbers of PyTorch and NumPy."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, torch.rand(()).item(), np.random.rand()


def loader(kind='DefaultSampler', workers=0, batch_size=4, seed=0):
    dataset = Drawing()
    made = DataLoader(dataset, batch_size, sampler=SeededSampler(dict(type=kind, shuffle=True), dataset, seed),
                      num_workers=workers, collate_fn=list)
    seed_samples(made)
    return made


def drawn(loader, batches=3):
    found = iter(loader)
    return [sample for _ in range(batches) for sample in next(found)]


@pytest.mark.parametrize('workers', [1, 2])
def test_seeded_samples_do_not_depend_on_the_loading_processes(workers):
    assert drawn(loader()) == drawn(loader(workers=workers))


def test_seeded_samples_do_not_depend_on_what_was_drawn_before():
    first = drawn(loader())
    torch.rand(5)
    assert drawn(loader()) == first


def test_seeded_samples_differ_by_seed_and_epoch():
    found = [drawn(loader(seed=seed)) for seed in (0, 1)]
    later = loader()
    later.sampler.set_epoch(1)
    found.append(drawn(later))
    numbers = [sample[1] for samples in found for sample in samples]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize('kind', ['DefaultSampler', 'InfiniteSampler'])
def test_seeded_samples_of_two_processes_are_those_of_one(kind, monkeypatch):
    alone = drawn(loader(kind, batch_size=4), batches=3)
    parts = []
    for rank in range(2):
        for module in (randomness, __import__('mmengine').dataset.sampler):
            monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(drawn(loader(kind, batch_size=2), batches=3))
    assert [sample for pair in zip(*parts) for sample in pair] == alone


def test_seeded_sampler_skips_as_the_sampler_that_it_wraps():
    skipping = loader('InfiniteSampler')
    skipping.sampler.skip(8)
    assert drawn(skipping, 4) == drawn(loader('InfiniteSampler'), 6)[8:]
    assert not hasattr(loader().sampler, 'skip')


def test_seeded_sampler_has_the_order_of_mmengine():
    for kind in (DefaultSampler, InfiniteSampler):
        assert [sample[0] for sample in drawn(loader(kind.__name__))] == [
            int(index) for _, index in zip(range(12), kind(Drawing(), seed=0))]


def test_seeded_sampler_restores_a_seed_that_was_drawn():
    one, other = loader('InfiniteSampler', seed=3), loader('InfiniteSampler', seed=4)
    other.sampler.restore(**one.sampler.state())
    assert drawn(one) == drawn(other)


def step(hook, iteration):
    hook.before_train_iter(SimpleNamespace(iter=iteration, seed=0))
    return torch.rand(()).item(), np.random.rand()


def test_random_state_hook_seeds_by_iteration():
    hook = RandomStateHook(loader())
    first = [step(hook, iteration) for iteration in range(3)]
    assert len(set(first)) == 3
    drawn(loader())
    assert [step(RandomStateHook(loader()), iteration) for iteration in range(3)] == first


def test_random_state_hook_restores_on_a_resume_only():
    saved = dict(meta={})
    RandomStateHook(loader(seed=5)).before_save_checkpoint(None, saved)
    for iteration, seed in ((0, 0), (4, 5)):
        made = loader(seed=0)
        hook = RandomStateHook(made)
        hook.after_load_checkpoint(None, saved)
        hook.before_train(SimpleNamespace(iter=iteration))
        assert made.sampler.seed == seed


@pytest.mark.parametrize('checkpoint', [{}, dict(meta={}), dict(meta=[])])
def test_random_state_hook_takes_checkpoints_of_before(checkpoint):
    hook = RandomStateHook(loader())
    hook.after_load_checkpoint(None, checkpoint)
    hook.before_train(SimpleNamespace(iter=3))
    assert hook.sampler.seed == 0


def test_seed_samples_leaves_a_data_set_that_reads_batches_itself():
    class Batches(Drawing):
        def __getitems__(self, indices):
            return [*map(int, indices)]

    dataset = Batches()
    made = DataLoader(dataset, 3, sampler=SeededSampler(dict(type='DefaultSampler', shuffle=False), dataset, 0),
                      collate_fn=list)
    seed_samples(made)
    assert next(iter(made)) == [0, 1, 2]
