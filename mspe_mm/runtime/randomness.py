"""Random numbers that depend only on the seed and the place in the training.

A training draws random numbers in two places: in its steps (resolutions, dropout) and in its data pipelines (crops, flips).
mmengine seeds each process once. Each draw then depends on all draws before it: a resumed training draws the numbers of its
first epochs again, and each loading worker draws numbers of its own. Here the generators are seeded anew

* before every training iteration, from the seed and the iteration. All processes draw the same: resolutions for the images
  of all, or the resolutions that all train;
* before every sample that is loaded for training, from the seed and the sample's place in the sampler's stream over all
  processes.

So a resumed training equals one that was not interrupted, and several processes or loading workers equal one with the same
global batch. The seed is part of the checkpoint, also where the config gives none.
"""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset, Sampler

_STEPS, _SAMPLES = 1, 2    # two streams of one seed


def _mixed(*numbers: int) -> int:
    """A seed of 63 bits, made of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


def seed_generators(*numbers: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch by several numbers."""
    seed = _mixed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Draw(int):
    """An index of a data set, with the ``seed`` of the random numbers that the sample is loaded with."""

    seed: int


class SeededSampler(Sampler):
    """A sampler of mmengine whose indices are :class:`Draw`.

    Args:
        sampler: The sampler's config.
        dataset: The data set.
        seed: Seed of the order and of the samples; by default drawn once for all processes.

    Attributes:
        sampler: The built sampler, which decides the order. Other attributes are read from it.
        start: How many indices of this process the next iteration leaves out.
    """

    def __init__(self, sampler: dict, dataset: Dataset, seed: int | None = None) -> None:
        self.dataset = dataset
        self.seed = sync_random_seed() if seed is None else seed
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=self.seed))
        self.rank, self.world_size = get_dist_info()
        self.epoch = self.start = 0
        if hasattr(self.sampler, 'skip'):    # mmengine checks whether the attribute exists
            self.skip = self._skip

    def __iter__(self) -> Iterator[Draw]:
        start, self.start = self.start, 0
        indices = self.sampler if hasattr(self.sampler, 'skip') else islice(self.sampler, start, None)
        for place, index in enumerate(indices, start):
            draw = Draw(index)
            draw.seed = _mixed(self.seed, _SAMPLES, self.epoch, place * self.world_size + self.rank)
            yield draw

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == 'sampler':    # it does not exist yet while a copy is made
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def _skip(self, samples: int) -> None:
        """Continue as after ``samples`` indices of this process."""
        self.sampler.skip(samples)
        self.start = samples

    def state(self) -> dict[str, int]:
        """The arguments of :meth:`restore`."""
        return dict(seed=self.seed, sampler_seed=getattr(self.sampler, 'seed', self.seed))

    def restore(self, seed: int, sampler_seed: int) -> None:
        """Take the seeds of another training's sampler, from its :meth:`state`."""
        self.seed = seed
        if hasattr(self.sampler, 'seed'):
            self.sampler.seed = sampler_seed


class _SeededReads:
    """PyTorch's ``Dataset.__getitems__``: the samples of a batch, each loaded with the random numbers of its draw."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list:
        return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        if isinstance(index, Draw):
            random.seed(index.seed)
            np.random.seed(index.seed % 2**32)
            torch.default_generator.manual_seed(index.seed)    # pipelines run on the CPU
        return self.dataset[int(index)]


def with_seeded_samples(loader: dict) -> dict:
    """The config of a training loader, to be built at once, with a :class:`SeededSampler` around its sampler."""
    return dict(loader, sampler=dict(type=SeededSampler, sampler=loader['sampler']))


def seed_samples(loader: DataLoader) -> None:
    """Seed each sample that a loader with a :class:`SeededSampler` reads; data sets that read whole batches are left out."""
    if seeded_sampler(loader) is not None and not hasattr(loader.dataset, '__getitems__'):
        loader.dataset.__getitems__ = _SeededReads(loader.dataset)


def seeded_sampler(loader: DataLoader) -> SeededSampler | None:
    """The :class:`SeededSampler` of a loader, if it has one."""
    for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
        if isinstance(sampler, SeededSampler):
            return sampler
    return None


class RandomStateHook(Hook):
    """Seeds every training iteration, and keeps the seeds in the checkpoint; see the module."""

    priority = 'VERY_HIGH'

    def __init__(self, loader: DataLoader) -> None:
        self.sampler = seeded_sampler(loader)
        self.stored: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.stored = checkpoint.get('meta', {}).get('random_state') if isinstance(checkpoint.get('meta'), dict) else None

    def before_train(self, runner: Runner) -> None:
        if self.stored and self.sampler is not None and runner.iter > 0:    # a resumed run, not load_from
            self.sampler.restore(**self.stored)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        seed_generators(runner.seed if self.sampler is None else self.sampler.seed, _STEPS, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.sampler is not None:
            checkpoint['meta']['random_state'] = self.sampler.state()
