"""Peak memory of a step: PyTorch's allocator on a GPU, the resident set on a CPU.

The resident set belongs to a process, so on a CPU every candidate runs in a process of its own. There, glibc returns every
freed tensor to the system at once (``MALLOC_MMAP_THRESHOLD_``); otherwise memory that it keeps for reuse would count.
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

MALLOC = {'MALLOC_MMAP_THRESHOLD_': '65536'}    # bytes; setting it stops glibc from adapting it


class OutOfMemory(Exception):  # noqa: N818  an outcome of a measurement
    """A candidate needs more memory than the device has."""


def allocator_peak(build: Callable[[], Step], device: str) -> tuple[Step, dict[str, int]]:
    """Build a candidate on a GPU and measure its step.

    Returns:
        The step, and bytes: ``step`` is the peak of a step above the level before it, ``peak`` includes what the candidate
        holds between steps, such as weights and momentum.

    Raises:
        OutOfMemory: If the GPU has too little memory.
    """
    before = torch.cuda.memory_allocated(device)
    try:
        step = build()
        step(0)    # the first step also fills caches and allocates momentum
        gc.collect()
        level = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(0)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory from error
    peak = torch.cuda.max_memory_allocated(device)
    return step, dict(step=peak - level, peak=peak - before)


def resident_peak(build: Callable[[], Step], threads: int, preload: tuple[str, ...] = ()) -> dict[str, int] | None:
    """Build a candidate on a CPU, in a process of its own, and measure its step.

    Args:
        build: Makes the step; can be pickled.
        threads: Number of PyTorch's threads.
        preload: Modules that ``build`` imports; they are imported once for all processes.

    Returns:
        Bytes as of :func:`allocator_peak`; None on other systems than Linux.

    Raises:
        OutOfMemory: If the system kills the process or refuses memory.
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
        if 'allocate memory' in str(error):    # on a CPU PyTorch raises a RuntimeError
            raise OutOfMemory from error
        raise
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _resident_peak(build: Callable[[], Step], threads: int) -> dict[str, int] | None:
    torch.set_num_threads(threads)
    before = _resident('RssAnon')    # without the code of libraries, which is loaded on demand
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
    """Bytes of the resident set (``VmRSS``), of its data alone (``RssAnon``) or of its peak (``VmHWM``).

    None on systems without /proc.
    """
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{field}:')), None)


def _forget_peak() -> bool:
    """Reset the peak to the current level; the ``ru_maxrss`` of getrusage cannot be reset."""
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True
