"""Candidates that other processes can build: memory is measured in them."""
import os
import signal

import torch

MIB = 2**20


def filled(size):
    return torch.ones(size, dtype=torch.uint8)


def holding(held, steps):
    """Holds ``held`` bytes; a step takes tensors of ``steps`` bytes, one after the other."""
    kept = filled(held)

    def step(_):
        for size in steps:
            filled(size)
        return kept[:1]
    return step


def piling_up(sizes):
    """A step takes tensors of ``sizes`` bytes and holds them all."""
    return lambda _: [filled(size) for size in sizes]


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def insatiable():
    return lambda _: torch.empty(2**60, dtype=torch.uint8)


def broken():
    raise ValueError('this cannot be built')


def build_modes():
    """A step that returns how many modes intercept the functions of PyTorch."""
    return lambda _: torch.tensor(float(torch._C._len_torch_function_stack()))
