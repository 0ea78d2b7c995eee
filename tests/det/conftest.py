"""What every detection test starts from."""
import cv2
import numpy as np
import pytest
import torch
from det_helpers import write_json
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True)
def _quiet():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    """The folder of a COCO data set of five images, landscape and portrait, two objects on each."""
    root = tmp_path_factory.mktemp('coco')
    (root / 'images').mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i, (height, width) in enumerate([(48, 64), (64, 48), (60, 60), (33, 80), (90, 41)]):
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        for j in range(2):
            x, y, w, h = 3 + 9 * j, 4 + 7 * j, 22 + 3 * j, 18 + 5 * j
            image[y:y + h, x:x + w] = (250, 10, 10) if j else (10, 250, 10)
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(
                dict(id=len(annotations) + 1, image_id=i + 1, category_id=(7, 2, 5)[(i + j) % 3], bbox=[x, y, w, h],
                     area=w * h, iscrowd=0, segmentation=polygon))
        cv2.imwrite(str(root / f'images/{i}.jpg'), image)
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', height=height, width=width))
    categories = [dict(id=7, name='cat'), dict(id=2, name='dog'), dict(id=5, name='bird')]
    write_json(root / 'instances.json', images, annotations, categories)
    return root
