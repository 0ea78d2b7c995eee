"""Annotations and images that are not as they should be: as mmdet users expect, or refused in one sentence."""
import copy
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from det_helpers import CLASSES, mask_rcnn, retinanet, write_json
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from pycocotools import mask as rle

from mspe_mm import InputError
from mspe_mm.det.class_checks import check_classes
from mspe_mm.runtime.runner import MSPERunner

PIPELINE = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True), dict(type='PackDetInputs')
]


def dataset_config(root, ann_file='instances.json', **changes):
    cfg = dict(
        type='CocoDataset', data_root=str(root), ann_file=ann_file, data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES), filter_cfg=dict(filter_empty_gt=True), pipeline=copy.deepcopy(PIPELINE))
    cfg.update(changes)
    return cfg


def load(cfg):
    """As the runner builds it."""
    loader = MSPERunner.build_dataloader(SimpleNamespace(model=torch.nn.Identity()), dict(
        dataset=cfg, batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False)))
    return loader.dataset


@pytest.fixture
def edited(coco, tmp_path):
    """A copy of the data set whose annotation file can be changed: ``edited(function of the parsed file)``."""
    (tmp_path / 'images').symlink_to(coco / 'images')

    def edit(change):
        data = json.loads((coco / 'instances.json').read_text())
        data = change(data) or data
        (tmp_path / 'instances.json').write_text(json.dumps(data))
        return dataset_config(tmp_path)

    return edit


def first_instances(cfg):
    return load(cfg)[0]['data_samples'].gt_instances


def test_polygons_and_both_kinds_of_rle_are_the_same_masks(edited, coco):
    expected = first_instances(dataset_config(coco))

    def with_rle(data):
        for i, annotation in enumerate(data['annotations']):
            image = data['images'][annotation['image_id'] - 1]
            size = image['height'], image['width']
            mask = rle.decode(rle.merge(rle.frPyObjects(annotation['segmentation'], *size)))
            if i % 2:
                code = rle.encode(np.asfortranarray(mask))
                annotation['segmentation'] = dict(size=list(size), counts=code['counts'].decode())
            else:
                flat, counts, value = mask.T.ravel(), [], 0
                while flat.size:    # run lengths down the columns, zeros first
                    run = int(np.argmax(flat != value)) if (flat != value).any() else flat.size
                    counts.append(run)
                    flat, value = flat[run:], 1 - value
                annotation['segmentation'] = dict(size=list(size), counts=counts)

    found = first_instances(edited(with_rle))
    assert len(expected) == 2
    assert np.array_equal(found.masks.masks, expected.masks.masks)
    assert found.masks.masks.any(axis=(1, 2)).all()


def test_boxes_without_area_are_left_out(edited, coco):
    def spoil(data):
        data['annotations'][0]['bbox'] = [5, 5, 0, 10]
        data['annotations'][1]['bbox'] = [5, 5, -8, 10]
        data['annotations'][2]['area'] = 0
        data['annotations'][4]['bbox'] = [500, 500, 20, 20]    # outside the image

    dataset = load(edited(spoil))
    assert [len(dataset[i]['data_samples'].gt_instances) for i in range(5)] == [0, 1, 1, 2, 2]
    model = MODELS.build(mask_rcnn(tuning=dict())).train()
    batch = pseudo_collate([dataset[i] for i in range(3)])    # one image without any object among them
    total, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    assert torch.isfinite(total)


def test_crowds_and_unusable_polygons_are_ignored_regions(edited):
    def crowd(data):
        data['annotations'][0]['iscrowd'] = 1
        data['annotations'][2]['segmentation'] = [[1, 2, 3, 4]]

    dataset = load(edited(crowd))
    for i in (0, 1):
        sample = dataset[i]['data_samples']
        assert len(sample.gt_instances) == len(sample.ignored_instances) == 1


def test_categories_outside_the_config_are_left_out(edited):
    def add(data):
        data['annotations'][0]['category_id'] = 99
        data['categories'].append(dict(id=99, name='unicorn'))

    dataset = load(edited(add))
    assert len(dataset[0]['data_samples'].gt_instances) == 1
    check_classes(dataset, MODELS.build(retinanet()))


@pytest.mark.parametrize(('change', 'sentence'), [
    (lambda d: d.update(annotations=[]), 'instances.json has no image with an annotation of the classes of the config'),
    (lambda d: d.update(images=[], annotations=[]), 'has no image with an annotation of the classes of the config'),
    (lambda d: [a.update(category_id=99) for a in d['annotations']] and None, 'has no image with an annotation'),
    (lambda d: d.pop('categories') and None, r"instances.json cannot be read \(KeyError: 'categories'\)"),
    (lambda d: d['annotations'][0].pop('bbox') and None, r"instances.json cannot be read \(KeyError: 'bbox'\)"),
    (lambda d: d['annotations'][0].update(id=2), 'are not unique'),
    (lambda d: [1], 'instances.json cannot be read'),
])
def test_damaged_annotation_files(edited, change, sentence):
    with pytest.raises(InputError, match=sentence):
        load(edited(change))


def test_truncated_annotation_file(coco, tmp_path):
    (tmp_path / 'cut.json').write_text((coco / 'instances.json').read_text()[:500])
    with pytest.raises(InputError, match=r'cut.json cannot be read \(JSONDecodeError'):
        load(dataset_config(tmp_path, 'cut.json'))


def test_missing_annotation_file_inside_a_wrapper(tmp_path):
    with pytest.raises(InputError, match=r'absent.json does not exist'):
        load(dict(type='RepeatDataset', times=2, dataset=dataset_config(tmp_path, 'absent.json')))


def test_missing_image(edited):
    dataset = load(edited(lambda d: d['images'][3].update(file_name='gone.jpg')))
    with pytest.raises(InputError, match=r'images/gone.jpg does not exist$'):
        dataset[3]


@pytest.mark.parametrize('segmentation', [None, dict(size=[3, 3], counts=[4, 5])])
def test_masks_that_are_missing_or_of_another_size(edited, segmentation):
    dataset = load(edited(lambda d: d['annotations'][0].update(segmentation=segmentation)))
    with pytest.raises(InputError, match=r'the annotation of .*images/0.jpg cannot be decoded'):
        dataset[0]


@pytest.mark.parametrize('image', [
    pytest.param(np.zeros((48, 64), np.uint8), id='grey'),
    pytest.param(np.full((48, 64, 4), 80, np.uint8), id='alpha'),
    pytest.param(np.full((48, 64, 3), 40000, np.uint16), id='16 bit'),
    pytest.param(np.full((48, 64), 40000, np.uint16), id='16 bit grey'),
])
def test_other_images_become_8_bit_colour(image, tmp_path):
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), image)
    annotation = dict(id=1, image_id=1, category_id=7, bbox=[3, 4, 22, 18], area=396, iscrowd=0,
                      segmentation=[[3, 4, 25, 4, 25, 22, 3, 22]])
    write_json(tmp_path / 'instances.json', [dict(id=1, file_name='a.png', height=48, width=64)], [annotation],
               [dict(id=i, name=name) for i, name in zip((7, 2, 5), CLASSES)])
    data = pseudo_collate([load(dataset_config(tmp_path))[0]])
    assert data['inputs'][0].dtype == torch.uint8
    assert data['inputs'][0].shape == (3, 48, 64)
    (result, ) = MODELS.build(mask_rcnn()).eval().test_step(data)
    assert torch.isfinite(result.pred_instances.bboxes).all()


def test_damaged_image(tmp_path, coco):
    (tmp_path / 'images').mkdir()
    for i in range(5):
        (tmp_path / f'images/{i}.jpg').write_bytes(b'no image')
    (tmp_path / 'instances.json').write_text((coco / 'instances.json').read_text())
    with pytest.raises(InputError, match=r'images/0.jpg cannot be decoded'):
        load(dataset_config(tmp_path))[0]


class TestClasses:

    def check(self, cfg, model=None):
        check_classes(DATASETS.build(cfg), MODELS.build(model or mask_rcnn()))

    def test_check_classes_accepts_the_classes_of_the_file(self, coco):
        for cfg in (dataset_config(coco), dict(type='RepeatDataset', times=2, dataset=dataset_config(coco))):
            self.check(cfg)
            assert DATASETS.build(cfg).metainfo['classes'] == CLASSES

    def test_class_that_the_file_lacks(self, coco):
        classes = ('cat', 'unicorn', 'dog')
        cfg = dataset_config(coco, metainfo=dict(classes=classes))
        with pytest.raises(InputError, match=r'instances.json lacks 1 of the 3 classes of the config \(unicorn\)'):
            self.check(dict(type='ConcatDataset', datasets=[dataset_config(coco), cfg]))

    def test_other_number_of_classes_in_the_head(self, coco):
        cfg = dataset_config(coco, metainfo=dict(classes=('cat', 'dog')))
        with pytest.raises(InputError, match=r'bbox_head.num_classes=3, and .*instances.json is read with 2 classes'):
            self.check(cfg, retinanet())
        with pytest.raises(InputError, match=r'roi_head.bbox_head.num_classes=3'):
            self.check(cfg)

    def test_one_class_written_as_text(self, coco):
        with pytest.raises(InputError, match="is the text 'cat': write a tuple"):
            self.check(dataset_config(coco, metainfo=dict(classes='cat')))
