"""Small untrained models of the shipped recipes, their checkpoints, and a few images: one folder for each task."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from det_helpers import lively
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from tools_helpers import ROOT, World, forget_shared

from mspe_mm.data.synthetic import write_synthetic, write_synthetic_folders
from mspe_mm.models.adapter import save_adapter
from mspe_mm.models.find import find_patch_embed

SEGMENTATION = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    backbone=dict(embed_dims=32, num_layers=2, num_heads=2, out_indices=(1, )),
    decode_head=dict(in_channels=32, channels=16))
train_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
test_dataloader = val_dataloader
'''
DETECTION = '''
_base_ = '{root}/configs/{name}.py'
model = dict(
    backbone=dict(embed_dim=32, depth=2, num_heads=2, window_size=3, window_block_indexes=[0]),
    neck=dict(backbone_channel=32, in_channels=[8, 16, 32, 32], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=3),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=3)),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=30), rcnn=dict(score_thr=0., max_per_img=8)))
dataset = dict(data_root='data', ann_file='instances.json', metainfo=dict(classes=('cat', 'dog', 'bird')))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/instances.json', metric='bbox')
test_evaluator = val_evaluator
'''
CLASSIFICATION = '''
_base_ = '{root}/configs/{name}.py'
model = dict(model_kwargs=dict(embed_dim=32, depth=2, num_heads=2))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='data'))
test_dataloader = val_dataloader
'''


@dataclass
class Task:
    """A world with ``mspe.py``, ``stock.py`` of the same network, ``stock.pth`` and ``adapter.safetensors``."""

    world: World
    images: list[Path]

    @property
    def folder(self) -> Path:
        return self.world.folder


def make_task(folder: Path, template: str, mspe: str, stock: str, meta: dict, images: list[Path]) -> Task:
    for name, recipe in (('mspe', mspe), ('stock', stock)):
        (folder / f'{name}.py').write_text(template.format(root=ROOT, name=recipe) + 'load_from = None\n')
    forget_shared()
    torch.manual_seed(0)
    cfg = Config.fromfile(folder / 'mspe.py')
    init_default_scope(cfg.default_scope)
    model = lively(MODELS.build(cfg.model))
    own = model.state_dict()
    torch.save(dict(state_dict={name: value for name, value in own.items() if '.kernels.' not in name},
                    meta=dict(dataset_meta=meta)), folder / 'stock.pth')
    layer = find_patch_embed(model)
    with torch.no_grad():
        for parameter in layer.kernels.parameters():
            parameter.normal_(std=0.1)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), folder / 'merged.pth')
    save_adapter(layer, folder / 'adapter.safetensors')
    return Task(World(folder), images)


@pytest.fixture(scope='session')
def segmentation(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp('segmentation')
    write_synthetic(folder / 'data', num_train=1, num_val=4, size=(128, 128), seed=0)
    meta = Config.fromfile(ROOT / 'configs/_base_/datasets/synthetic.py').metainfo
    return make_task(folder, SEGMENTATION, 'setr_mspe_5e_synthetic', 'setr_synthetic', dict(meta),
                     sorted((folder / 'data/images/val').iterdir()))


@pytest.fixture(scope='session')
def detection(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp('detection')
    (folder / 'data/images').mkdir(parents=True)
    rng, images, annotations = np.random.default_rng(0), [], []
    for index, (height, width) in enumerate([(192, 256), (256, 160), (256, 256)]):
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        x, y, w, h = 20 + 9 * index, 30, 60, 70
        image[y:y + h, x:x + w] = (250, 10, 10)
        Image.fromarray(image).save(folder / f'data/images/{index}.png')
        images.append(dict(id=index + 1, file_name=f'{index}.png', height=height, width=width))
        annotations.append(dict(id=index + 1, image_id=index + 1, category_id=1 + index, bbox=[x, y, w, h], area=w * h,
                                iscrowd=0, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))
    categories = [dict(id=index + 1, name=name) for index, name in enumerate(('cat', 'dog', 'bird'))]
    (folder / 'data/instances.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=categories)))
    return make_task(folder, DETECTION, 'vitdet_mspe_coco128', 'vitdet_coco128',
                     dict(classes=('cat', 'dog', 'bird'), palette=[(220, 20, 60), (119, 11, 32), (0, 0, 142)]),
                     sorted((folder / 'data/images').iterdir()))


@pytest.fixture(scope='session')
def classification(tmp_path_factory) -> Task:
    folder = tmp_path_factory.mktemp('classification')
    write_synthetic_folders(folder / 'data', num_train=10, num_val=10, size=(64, 64), seed=0)
    classes = sorted(path.name for path in (folder / 'data/val').iterdir())
    return make_task(folder, CLASSIFICATION, 'vit_mspe_synthetic_cls', 'vit_synthetic_cls', dict(classes=classes),
                     sorted((folder / 'data/val').rglob('*.png')))


@pytest.fixture
def task(request, monkeypatch) -> Task:
    """One of the tasks, by its name. The working folder is the task's, as the paths of its configs ask."""
    task = request.getfixturevalue(request.param)
    monkeypatch.chdir(task.folder)
    forget_shared()
    return task
