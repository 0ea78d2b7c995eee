"""A COCO data set for mmdet's tools."""
import numpy as np
import pytest
from det_helpers import write_json
from PIL import Image


@pytest.fixture
def coco_folder(tmp_path):
    """The folder of a COCO data set of two images with a box each."""
    images, annotations = [], []
    for number in (1, 2):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
            tmp_path / f'{number}.png')
        images.append(dict(id=number, file_name=f'{number}.png', height=48, width=64))
        annotations.append(dict(id=number, image_id=number, category_id=1, bbox=[4, 5, 20, 15], area=300, iscrowd=0))
    write_json(tmp_path / 'instances.json', images, annotations, [dict(id=1, name='person')])
    return tmp_path
