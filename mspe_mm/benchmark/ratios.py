"""A comparison: one candidate of ours against its peers, side by side in one process."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .compute import count_flops, matmul
from .memory import OutOfMemory, allocator_peak, resident_peak
from .timing import Step, calls_in_a_row, device_clock, interleave, paired_ratio, spread

PRELOAD = ('mspe_mm.seg', 'mspe_mm.det')    # what takes seconds to import


@dataclass(frozen=True)
class Settings:
    """What holds for all candidates of a run."""

    device: str = 'cpu'
    dtype: torch.dtype = torch.float32
    compile: bool = False
    threads: int = 1
    repeats: int = 10
    batch_size: int = 1
    memory: bool = True

    def autocast(self) -> AbstractContextManager:
        """Mixed precision as ``--amp`` has it; nothing in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, self.dtype)


@dataclass(frozen=True)
class Candidate:
    """One thing to be measured.

    Args:
        name: Its name in the table.
        build: Makes the step from nothing; can be pickled, since memory is measured in other processes.
        tokens: Tokens of an image.
        images: Images that a step processes.
        same_output: Whether the step returns the same as ours does, up to rounding.
        work: Candidates of one name do the same work, however they go about it: each counts the fewest operations of all.
    """

    name: str
    build: Callable[[], Step]
    tokens: int | None = None
    images: int | None = None
    same_output: bool = False
    work: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Ours, and what it is held against.

    Args:
        labels: What is compared, such as ``{'model': 'ViT-B', 'resolution': '512'}``.
        ours: Our candidate.
        peers: The others.
        memory: Whether memory is of interest.
        flops: Whether arithmetic is.
    """

    labels: dict[str, str]
    ours: Candidate
    peers: tuple[Candidate, ...]
    memory: bool = True
    flops: bool = True


def measure(comparison: Comparison, settings: Settings,
            progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> list[dict]:
    """Rows of a comparison, ours first.

    Args:
        comparison: What to measure.
        settings: How.
        progress: Wraps the numbers of the rounds: ``tqdm``, say.

    Returns:
        For every candidate ``{'labels', 'candidate', 'peer', 'tokens', 'seconds', 'samples', 'ratio', 'images_per_second',
        'flops', 'roofline', 'memory', 'memory_ratio', 'difference'}``. ``ratio`` and ``memory_ratio`` are ours over the
        row's; what was not measured is None; a peer that ran out of memory has no ``seconds``.

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
    calls = [calls_in_a_row(single) for (single, ) in interleave(timed, [0], [1] * len(timed), clock)]    # the second
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
        return candidate.build(), None
    if torch.device(settings.device).type == 'cuda':
        return allocator_peak(candidate.build, settings.device)
    memory = resident_peak(candidate.build, settings.threads, PRELOAD)
    return candidate.build(), memory


def _flops(candidates: Sequence[Candidate], steps: Sequence[Step]) -> list[int | None]:
    counts = [count_flops(step) for step in steps]
    works = [candidate.work or candidate.name for candidate in candidates]
    return [min((c for c, w in zip(counts, works) if w == work and c), default=None) for work in works]


def _ratios(ours: dict[str, int] | None, peer: dict[str, int] | None) -> dict[str, float] | None:
    return {name: ours[name] / max(peer[name], 1) for name in ours} if ours and peer else None


def _differences(candidates: Sequence[Candidate], steps: Sequence[Step]) -> list[dict[str, float] | None]:
    ours, *others = (list(_tensors(step(0))) for step in steps)
    return [None, *(difference(ours, other) if candidate.same_output else None
                    for candidate, other in zip(candidates[1:], others))]


def difference(ours: list[Tensor], peer: list[Tensor]) -> dict[str, float]:
    """The largest absolute difference of two outputs, and that over the peer's largest value."""
    largest = max((a.double() - b.double()).abs().max().item() for a, b in zip(ours, peer))
    return dict(absolute=largest, relative=largest / max(max(b.double().abs().max().item() for b in peer), 1e-30))


def _tensors(output: object) -> Iterator[Tensor]:
    """All tensors in what a step returns."""
    if isinstance(output, Tensor):
        yield output.detach()
    elif isinstance(output, (list, tuple)):
        for item in output:
            yield from _tensors(item)
