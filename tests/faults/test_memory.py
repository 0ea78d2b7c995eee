"""Memory and file handles stay flat over images of random sizes."""
from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample


def resident_bytes() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def open_files() -> int:
    return len(list(Path('/proc/self/fd').iterdir()))


@pytest.mark.parametrize('images', [pytest.param(100, id='small'), pytest.param(500, id='long', marks=pytest.mark.faults)])
def test_prediction_keeps_memory_and_file_handles_flat(ground, images):
    """The second half of the images repeats the sizes of the first: PyTorch's CPU kernels keep memory for each new size."""
    init_default_scope('mmseg')
    model = MODELS.build(Config.fromfile(ground / 'mspe.py').model).eval()
    drawn = random.Random(0)
    sizes = [(drawn.randint(1, 96), drawn.randint(1, 96)) for _ in range(images // 2)]
    seen = []
    for height, width in sizes * 2:
        sample = SegDataSample(metainfo=dict(ori_shape=(height, width), img_shape=(height, width)))
        with torch.no_grad():
            data = dict(inputs=[torch.zeros(3, height, width, dtype=torch.uint8)], data_samples=[sample])
            (result, ) = model.test_step(data)
        assert result.pred_sem_seg.data.shape[-2:] == (height, width)
        seen.append((resident_bytes(), open_files()))
    first, second = (max(memory for memory, _ in half) for half in (seen[:len(sizes)], seen[len(sizes):]))
    print(f'{images} images: {(first - seen[0][0]) / 2**20:+.1f} MiB in the first half, {(second - first) / 2**20:+.1f} MiB '
          f'in the second; {seen[-1][1]} open files')
    assert second - first < 4 * 2**20
    assert len({files for _, files in seen[1:]}) == 1
