"""Peak memory of a step: PyTorch's allocator on a GPU, the resident set on a CPU.

The resident set belongs to a process, so on a CPU every candidate gets one of its own. There glibc is told to give back
every freed tensor at once (``MALLOC_MMAP_THRESHOLD_``); it would otherwise keep some for later, which would count.
"""
from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from .timing import Step

MALLOC = {'MALLOC_MMAP_THRESHOLD_': '65536'}    # bytes; once it is set, glibc stops moving it


class OutOfMemory(Exception):  # noqa: N818  an outcome of a measurement
    """A candidate needs more memory than there is."""


def allocator_peak(build: Callable[[], Step], device: str) -> tuple[Step, dict[str, int]]:
    """Build a candidate on a GPU and measure its step.

    Returns:
        The step, and bytes: ``step``, the peak of a step above the level before it, and ``peak``, with what the candidate
        holds all the time: weights, momentum.

    Raises:
        OutOfMemory: If the GPU has too little.
    """
    before = torch.cuda.memory_allocated(device)
    try:
        step = build()
        step(0)    # what only the first step needs stays out: cuDNN's choices, momentum, caches
        gc.collect()
        level = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(0)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory from error
    peak = torch.cuda.max_memory_allocated(device)
    return step, dict(step=peak - level, peak=peak - before)


def resident_peak(build: Callable[[], Step], threads: int, preload: tuple[str, ...] = ()) -> dict[str, int] | None:
    """The same on a CPU, in a fresh process.

    Args:
        build: Makes the step; can be pickled.
        threads: Threads of PyTorch there.
        preload: Modules that ``build`` imports, to be imported once for all processes.

    Returns:
        Bytes as :func:`allocator_peak`; None where the system does not tell (it takes Linux).

    Raises:
        OutOfMemory: If the system ends the process, or refuses it memory.
    """
    method = 'forkserver' if 'forkserver' in multiprocessing.get_all_start_methods() else 'spawn'
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__, *preload])
    before = {name: os.environ.get(name) for name in MALLOC}
    os.environ.update(MALLOC)
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_resident_peak, build, threads).result()
    except BrokenProcessPool as error:
        raise OutOfMemory from error
    except RuntimeError as error:
        if 'allocate memory' in str(error):    # PyTorch has no class of its own for it on a CPU
            raise OutOfMemory from error
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _resident_peak(build: Callable[[], Step], threads: int) -> dict[str, int] | None:
    torch.set_num_threads(threads)
    before = _resident('RssAnon')    # without the code of libraries, which is loaded as it is needed
    step = build()
    step(0)
    gc.collect()
    if before is None or not _forget_peak():
        return None
    held, level = _resident('RssAnon') - before, _resident('VmRSS')
    step(0)
    rise = _resident('VmHWM') - level
    return dict(step=rise, peak=held + rise)


def _resident(field: str) -> int | None:
    """Bytes of the resident set now (``VmRSS``), of its data alone (``RssAnon``) or at its peak (``VmHWM``).

    None where there is no /proc.
    """
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{field}:')), None)


def _forget_peak() -> bool:
    """Set the peak back to the level of now, which getrusage's ``ru_maxrss`` cannot be."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True
