"""Every test is repeatable: one thread, a fixed seed, and hypothesis always tries the same examples."""
import pytest
import torch
from hypothesis import settings

settings.register_profile('repeatable', deadline=None, derandomize=True, max_examples=100)
settings.load_profile('repeatable')
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
