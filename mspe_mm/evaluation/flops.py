"""Counting the arithmetic of a model."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ..runtime.compile import without_compiling


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention in ``run()``; a multiply-add is two."""
    # PyTorch has no formula for its fused attention on CPUs, and would leave it out (2.1 has no such operation).
    fused_on_cpu = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None)
    formulas = {fused_on_cpu: _attention} if fused_on_cpu else None
    with without_compiling(), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        run()
    return counter.get_total_flops()


def _attention(q_shape: torch.Size, k_shape: torch.Size, v_shape: torch.Size, *args, **kwargs) -> int:
    return sdpa_flop_count(q_shape, k_shape, v_shape)
