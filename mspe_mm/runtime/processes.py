"""Joining the processes that a launcher has started, for tools without a runner."""
from __future__ import annotations

import torch
from mmengine.dist import init_dist, is_distributed


def join_processes(launcher: str) -> None:
    """Join the processes of a launcher, to exchange tensors on the CPU (gloo).

    Args:
        launcher: ``'none'`` for one process, ``'pytorch'``, ``'slurm'`` or ``'mpi'``, as ``--launcher`` has it.
    """
    if launcher == 'none' or is_distributed():
        return
    if launcher == 'pytorch':
        torch.distributed.init_process_group('gloo')    # mmengine would ask for a GPU
    else:
        init_dist(launcher, backend='gloo')
