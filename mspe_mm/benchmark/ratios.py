"""A comparison: one candidate of this package against its peers, side by side in one process."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..errors import InputError
from ..evaluation.flops import count_flops
from ..runtime.fast_products import fast_cpu_products
from .compute import matmul
from .memory import OutOfMemory, allocator_peak, resident_peak
from .timing import Step, calls_in_a_row, device_clock, interleave, paired_ratio, spread

PRELOAD = ('mspe_mm.seg', 'mspe_mm.det')    # they take seconds to import


@dataclass(frozen=True)
class Settings:
    """Settings of all candidates of a run."""

    device: str = 'cpu'
    dtype: torch.dtype = torch.float32
    compile: bool = False
    threads: int = 1
    repeats: int = 10
    batch_size: int = 1
    memory: bool = True

    def autocast(self) -> AbstractContextManager:
        """Mixed precision, as by ``--amp``; an empty context for float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, self.dtype)


@dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    Args:
        name: Name in the table.
        build: Makes the step. It can be pickled, because memory is measured in other processes.
        tokens: Number of tokens of an image.
        images: Number of images that a step processes.
        same_output: Whether the step returns the same values as ours, up to rounding.
        work: Candidates with the same ``work`` compute the same result. All of them count the smallest number of
            floating-point operations among them.
        ours: Whether the model is one of this package. It then runs as the tools run it: within
            :func:`~mspe_mm.runtime.fast_products.fast_cpu_products`, unless it is compiled.
    """

    name: str
    build: Callable[[], Step]
    tokens: int | None = None
    images: int | None = None
    same_output: bool = False
    work: str | None = None
    ours: bool = False

    def step(self, compiled: bool) -> Step:
        """The step of a new model. ``compiled`` says whether the models of this run are compiled."""
        step = self.build()
        if not self.ours or compiled:
            return step

        def by_fast_products(number: int) -> object:
            with fast_cpu_products():
                return step(number)
        return by_fast_products


@dataclass(frozen=True)
class Comparison:
    """Our candidate and its peers.

    Args:
        labels: The settings that the candidates share, such as ``{'model': 'ViT-B', 'resolution': '512'}``.
        ours: Our candidate.
        peers: The other candidates.
        memory: Whether memory is measured.
        flops: Whether floating-point operations are counted.
    """

    labels: dict[str, str]
    ours: Candidate
    peers: tuple[Candidate, ...]
    memory: bool = True
    flops: bool = True


def measure(comparison: Comparison, settings: Settings,
            progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[dict]:
    """Measure a comparison.

    Args:
        comparison: What to measure.
        settings: How to measure it.
        progress: Wraps the iterable of round numbers, such as ``tqdm``.

    Returns:
        A row per candidate, ours first: ``{'labels', 'candidate', 'peer', 'tokens', 'seconds', 'samples', 'ratio',
        'images_per_second', 'flops', 'roofline', 'memory', 'memory_ratio', 'difference'}``. ``ratio`` and ``memory_ratio``
        are ours divided by the row's. Entries that were not measured are None, such as the ``seconds`` of a peer that ran
        out of memory.

    Raises:
        InputError: If ours runs out of memory.
    """
    measured, steps, memory = [], [], []
    for candidate in (comparison.ours, *comparison.peers):
        try:
            step, size = _build(candidate, comparison, settings)
        except OutOfMemory as error:
            if candidate is comparison.ours:
                raise InputError(f'{candidate.name} ({", ".join(comparison.labels.values())}) ran out of memory: choose '
                                 'smaller --models, --resolutions or --batch-size') from error
            continue
        measured.append(candidate)
        steps.append(step)
        memory.append(size)
    differences = _differences(measured, steps)    # the first warm-up
    flops = _flops(measured, steps) if comparison.flops else [None] * len(steps)
    roof = [matmul(settings.device, settings.dtype)] if any(flops) else []
    timed = [*steps, *(step for step, _ in roof)]    # in the same rounds
    clock = device_clock(settings.device)
    calls = [calls_in_a_row(single) for (single, ) in interleave(timed, [0], [1] * len(timed), clock)]    # warm-up 2
    seconds = interleave(timed, progress(range(settings.repeats)), calls, clock)
    rows = []
    for i, candidate in enumerate(measured):
        row = _row(comparison, candidate)
        median = spread(seconds[i])['median']
        row.update(seconds=spread(seconds[i]), samples=seconds[i], memory=memory[i])
        if candidate.images:
            row.update(images_per_second=candidate.images / median)
        if flops[i]:
            of_the_roof = paired_ratio(seconds[-1], seconds[i])['median']
            row.update(flops=flops[i], roofline=flops[i] / roof[0][1] * of_the_roof)
        if i:
            row.update(ratio=paired_ratio(seconds[0], seconds[i]), memory_ratio=_ratios(memory[0], memory[i]),
                       difference=differences[i])
        rows.append(row)
    return rows + [_row(comparison, candidate) for candidate in comparison.peers if candidate not in measured]


def _row(comparison: Comparison, candidate: Candidate) -> dict:
    unknown = dict.fromkeys(('seconds', 'samples', 'ratio', 'images_per_second', 'flops', 'roofline', 'memory',
                             'memory_ratio', 'difference'))
    return dict(labels=comparison.labels, candidate=candidate.name, peer=candidate is not comparison.ours,
                tokens=candidate.tokens, **unknown)


def _build(candidate: Candidate, comparison: Comparison, settings: Settings) -> tuple[Step, dict[str, int] | None]:
    if not (settings.memory and comparison.memory):
        return candidate.step(settings.compile), None
    build = partial(candidate.step, settings.compile)
    if torch.device(settings.device).type == 'cuda':
        return allocator_peak(build, settings.device)
    memory = resident_peak(build, settings.threads, PRELOAD)
    return build(), memory


def _flops(candidates: Sequence[Candidate], steps: Sequence[Step]) -> list[int | None]:
    counts = [count_flops(partial(step, 0)) or None for step in steps]    # 0: nothing could be observed
    works = [candidate.work or candidate.name for candidate in candidates]
    return [min((c for c, w in zip(counts, works) if w == work and c), default=None) for work in works]


def _ratios(ours: dict[str, int] | None, peer: dict[str, int] | None) -> dict[str, float] | None:
    return {name: ours[name] / max(peer[name], 1) for name in ours} if ours and peer else None


def _differences(candidates: Sequence[Candidate], steps: Sequence[Step]) -> list[dict[str, float] | None]:
    ours, *others = (list(_tensors(step(0))) for step in steps)
    return [None, *(difference(ours, other) if candidate.same_output else None
                    for candidate, other in zip(candidates[1:], others))]


def difference(ours: list[Tensor], peer: list[Tensor]) -> dict[str, float]:
    """The largest absolute difference of two outputs, also relative to the peer's largest value."""
    largest = max((a.double() - b.double()).abs().max().item() for a, b in zip(ours, peer))
    return dict(absolute=largest, relative=largest / max(max(b.double().abs().max().item() for b in peer), 1e-30))


def _tensors(output: object) -> Iterator[Tensor]:
    """The tensors in the output of a step."""
    if isinstance(output, Tensor):
        yield output.detach()
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
