"""The roof counts its operations."""
import torch

from mspe_mm.benchmark.compute import matmul
from mspe_mm.evaluation.flops import count_flops


def test_matmul_returns_the_operations_of_its_step():
    step, flops = matmul('cpu', torch.float32, 32)
    assert count_flops(lambda: step(0)) == flops
