"""Every test is repeatable: one thread, a fixed seed, and hypothesis always tries the same examples."""
import os
from collections import Counter

# Of the processes that tests start, too. The check for a GPU must not initialise CUDA: forks could not use it any more.
os.environ.update(OMP_NUM_THREADS='1', PYTORCH_NVML_BASED_CUDA_CHECK='1')

import pytest
import torch
from hypothesis import settings
from python_processes import format_once

format_once()
settings.register_profile('repeatable', deadline=None, derandomize=True, max_examples=100)
settings.load_profile('repeatable')
torch.set_num_threads(1)

COMMAND_LINES = {'world', 'segformer', 'tool'}
"""Fixtures that run the command lines, train a model to start from, or both."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the command lines are slow; others say so themselves. Files of many slow tests come first: none ends late."""
    for item in items:
        if COMMAND_LINES & set(getattr(item, 'fixturenames', ())):
            item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker('slow'))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
