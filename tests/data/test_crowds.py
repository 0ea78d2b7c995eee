"""The synthetic detection set: instances that are exactly what is seen, of many sizes, and no image in both splits."""
import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import decode, frPyObjects

from mspe_mm import InputError
from mspe_mm.data.scenes import CROWD_RADII, OBJECT_CLASSES, SPLITS, draw_crowd
from mspe_mm.data.synthetic import coco_annotations, write_synthetic, write_synthetic_detection

SIZE = (96, 128)    # not square, so that a mixed-up order shows
COUNTS = dict(train=24, val=6)


def write(out, **kwargs):
    return write_synthetic_detection(
        out, **{**dict(num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE, seed=7), **kwargs})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'crowds'
    assert write(out)
    return out


@pytest.fixture(params=SPLITS)
def coco(request, folder):
    return COCO(str(folder / 'annotations' / f'instances_{request.param}.json'))


def test_crowd_depends_on_seed_split_and_index_alone():
    first = draw_crowd(SIZE, 3, 'train', 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, draw_crowd(SIZE, 3, 'train', 5)))
    for other in (draw_crowd(SIZE, 4, 'train', 5), draw_crowd(SIZE, 3, 'val', 5), draw_crowd(SIZE, 3, 'train', 6)):
        assert not np.array_equal(first.image, other.image)
        assert not np.array_equal(first.instances, other.instances)


def test_crowd_of_a_bad_seed_or_split_is_refused():
    with pytest.raises(InputError, match='negative, got -1'):
        draw_crowd(SIZE, -1, 'train', 0)
    with pytest.raises(InputError, match="split 'test'"):
        draw_crowd(SIZE, 0, 'test', 0)


def test_annotations_are_the_drawn_instances(folder, coco):
    split = 'train' if len(coco.imgs) == COUNTS['train'] else 'val'
    assert len(coco.imgs) == COUNTS[split]
    for image in coco.imgs.values():
        scene = draw_crowd(SIZE, 7, split, image['id'] - 1)
        assert (image['height'], image['width']) == SIZE
        assert np.array_equal(np.asarray(Image.open(folder / 'images' / split / image['file_name'])), scene.image)
        assert np.array_equal(np.asarray(Image.open(folder / 'annotations' / split / image['file_name'])), scene.semantic)
        drawn = [scene.instances == number for number in range(1, scene.instances.max() + 1)]
        annotated = [coco.annToMask(annotation).astype(bool) for annotation in coco.imgToAnns[image['id']]]
        assert len(drawn) == len(annotated) > 0
        assert all(np.array_equal(a, b) for a, b in zip(drawn, annotated))


def test_boxes_and_areas_are_those_of_the_masks(coco):
    assert 0 not in coco.anns    # COCO's evaluation takes id 0 for "no match"
    for annotation in coco.anns.values():
        mask = decode(frPyObjects(annotation['segmentation'], *SIZE))
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation['bbox']
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
        assert annotation['area'] == mask.sum()
        assert annotation['iscrowd'] == 0


def test_categories_are_the_classes_of_objects(coco):
    names = {category['id']: category['name'] for category in coco.loadCats(coco.getCatIds())}
    assert tuple(names[identity] for identity in sorted(names)) == OBJECT_CLASSES
    assert {annotation['category_id'] for annotation in coco.anns.values()} <= names.keys()


def test_every_class_occurs(folder):
    coco = COCO(str(folder / 'annotations/instances_train.json'))
    assert {annotation['category_id'] for annotation in coco.anns.values()} == set(coco.getCatIds())


def test_no_image_is_in_both_splits(folder):
    images = {split: {hashlib.sha256(np.asarray(Image.open(path)).tobytes()).hexdigest()
                      for path in (folder / 'images' / split).iterdir()} for split in SPLITS}
    assert {split: len(found) for split, found in images.items()} == COUNTS
    assert not images['train'] & images['val']


def test_crowds_hold_small_and_medium_objects_that_overlap():
    scenes = [draw_crowd((192, 192), 0, 'train', index) for index in range(60)]
    areas = np.array([annotation['area'] for scene in scenes for annotation in coco_annotations(scene)])
    bands = np.histogram(areas, [0, 32**2, 96**2, np.inf])[0] / len(areas)    # COCO's
    assert 4 < len(areas) / len(scenes) < 10
    assert 0.2 < bands[0] < 0.5
    assert 0.5 < bands[1] < 0.8
    assert areas.max() < 4 * CROWD_RADII[1]**2
    boxes = [[annotation['bbox'] for annotation in coco_annotations(scene)] for scene in scenes]
    assert np.mean([any(overlap(a, b) for i, a in enumerate(found) for b in found[:i]) for found in boxes]) > 0.9


def overlap(a, b):
    return max(a[0], b[0]) < min(a[0] + a[2], b[0] + b[2]) and max(a[1], b[1]) < min(a[1] + a[3], b[1] + b[3])


def test_interrupted_and_other_sets_are_written_anew(tmp_path):
    out = tmp_path / 'set'
    assert write_synthetic(out, num_train=2, num_val=1, size=SIZE, seed=7)
    assert write(out, num_train=1, num_val=1)
    assert [path.name for path in (out / 'annotations/train').iterdir()] == ['00000.png']    # nothing of the other set
    assert not write(out, num_train=1, num_val=1)
    (out / 'synthetic.json').write_text(json.dumps(dict(complete=False)))
    assert write(out, num_train=1, num_val=1)
