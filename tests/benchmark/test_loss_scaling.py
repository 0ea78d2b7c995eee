"""Kernels that are tuned in mixed precision with loss scaling are those that are tuned in float32."""
import pytest
import torch

from mspe_mm.benchmark.loss_scaling import SCALES, TOLERANCE, compare_loss_scales, tune
from mspe_mm.benchmark.ratios import Settings

pytestmark = pytest.mark.skipif(not hasattr(torch.amp, 'GradScaler'), reason='this PyTorch scales losses on a GPU only')
SETTINGS = Settings(batch_size=2)


@pytest.fixture(autouse=True)
def _small(small):
    pass


@pytest.mark.slow
def test_float16_tunes_the_kernels_of_float32_also_after_steps_that_overflow():
    rows = compare_loss_scales(SETTINGS, 'tiny', 32, 4)
    assert [(row['dtype'], row['initial_scale']) for row in rows] == [
        ('bfloat16', None), *(('float16', scale) for scale in SCALES)]
    _, usual, large = rows
    assert usual['skipped'] == 0
    assert usual['final_scale'] == SCALES[0]
    assert large['skipped'] > 0
    assert large['final_scale'] == SCALES[1] / 2**large['skipped']
    assert 0 < usual['difference'] < TOLERANCE
    assert 0 < large['difference'] < TOLERANCE


def test_tunings_of_the_same_steps_are_the_same():
    one, two, other = (tune(SETTINGS, torch.float32, None, 'tiny', 32, steps)[0] for steps in (2, 2, 3))
    assert torch.equal(one, two)
    assert one.norm() > 0
    assert not torch.equal(one, other)
