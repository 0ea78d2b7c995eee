"""The config that a run leaves in its work dir is the user's: mmseg loads it without the tools of this package."""
import pytest
from stock_helpers import OF_THE_VERSION_BEFORE, TRAIN_AND_TEST, added_by_tools, assert_python_runs

INFERENCE = '''
import sys
import numpy as np
from mmseg.apis import inference_model, init_model
model = init_model(sys.argv[1], sys.argv[2], device='cpu')
image = np.zeros((64, 64, 3), np.uint8)
assert inference_model(model, image).pred_sem_seg.data.shape == (1, 64, 64)
'''


@pytest.fixture
def dumped(world):
    path = world.folder / 'work_dirs/mspe/mspe.py'
    assert added_by_tools(path) == []
    return path


def test_dumped_config_trains_and_tests_by_the_stock_runner(world, dumped):
    assert_python_runs(TRAIN_AND_TEST, world.folder, dumped)
    assert (world.folder / 'stock/epoch_1.pth').is_file()
    assert (world.folder / 'stock/adapter.safetensors').is_file()


def test_dumped_config_is_taken_by_mmseg_init_model(world, dumped):
    assert_python_runs(INFERENCE, world.folder, dumped, 'work_dirs/mspe/epoch_2.pth')


def test_dumped_config_of_the_version_before_runs(world, dumped):
    assert_python_runs(OF_THE_VERSION_BEFORE, world.folder, dumped)
    assert (world.folder / 'before/epoch_1.pth').is_file()
