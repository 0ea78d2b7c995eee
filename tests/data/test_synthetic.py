"""The synthetic data sets: reproducible, its instances exactly its masks, and never half of it taken for all of it."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mspe_mm import InputError
from mspe_mm.data.scenes import CLASSES, OBJECT_CLASSES, PALETTE, SPLITS, draw_object, draw_scene
from mspe_mm.data.synthetic import coco_annotations, write_synthetic, write_synthetic_folders

SIZE = (48, 80)    # not square, so that a mixed-up order shows
COUNTS = dict(train=30, val=3)
FIRST_OBJECT = 2    # the classes before are ground


def write(out, **kwargs):
    return write_synthetic(out, **{**dict(num_train=COUNTS['train'], num_val=COUNTS['val'], size=SIZE, seed=7), **kwargs})


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'synthetic'
    assert write(out)
    return out


def test_a_scene_depends_on_seed_split_and_index_alone():
    first = draw_scene(SIZE, 3, 'train', 5)
    again = draw_scene(SIZE, 3, 'train', 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    for other in (draw_scene(SIZE, 4, 'train', 5), draw_scene(SIZE, 3, 'val', 5), draw_scene(SIZE, 3, 'train', 6)):
        assert not np.array_equal(first.image, other.image)
        assert not np.array_equal(first.semantic, other.semantic)


def test_files_depend_on_the_seed_alone_and_not_on_how_many_there_are(folder, tmp_path):
    assert write(tmp_path / 'same', num_train=2)
    few, many = contents(tmp_path / 'same'), contents(folder)
    images = [name for name in few if name.endswith('.png')]
    assert len(images) == 2 * (2 + COUNTS['val'])
    assert all(few[name] == many[name] for name in images)


def test_layout_sizes_and_types(folder):
    for split in SPLITS:
        names = sorted(path.name for path in (folder / 'images' / split).iterdir())
        assert len(names) == COUNTS[split]
        assert names == sorted(path.name for path in (folder / 'annotations' / split).iterdir())
        for name in names:
            image = np.asarray(Image.open(folder / 'images' / split / name))
            mask = np.asarray(Image.open(folder / 'annotations' / split / name))
            assert (image.shape, image.dtype) == ((*SIZE, 3), np.uint8)
            assert (mask.shape, mask.dtype) == (SIZE, np.uint8)
            assert mask.max() < len(CLASSES)
            assert image.std() > 10    # not a blank


def test_every_class_occurs(folder):
    masks = [np.asarray(Image.open(path)) for path in (folder / 'annotations' / 'train').iterdir()]
    assert set(np.unique(masks)) == set(range(len(CLASSES)))
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == len(set(CLASSES))


@pytest.mark.parametrize('split', SPLITS)
def test_instances_are_exactly_the_masks(folder, split):
    from pycocotools import coco as coco_module
    coco = coco_module.COCO(str(folder / 'annotations' / f'instances_{split}.json'))
    assert {category['id']: category['name'] for category in coco.loadCats(coco.getCatIds())} == dict(
        list(enumerate(CLASSES))[FIRST_OBJECT:])
    assert len(coco.imgs) == COUNTS[split]
    assert 0 not in coco.anns
    for image in coco.imgs.values():
        assert (image['height'], image['width']) == SIZE
        semantic = np.asarray(Image.open(folder / 'annotations' / split / image['file_name']))
        painted = np.zeros(SIZE, np.uint8)
        covered = np.zeros(SIZE, int)
        for annotation in coco.imgToAnns[image['id']]:
            mask = coco.annToMask(annotation).astype(bool)
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation['bbox']
            assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
            assert annotation['area'] == mask.sum()
            assert annotation['iscrowd'] == 0
            painted[mask] = annotation['category_id']
            covered += mask
        assert covered.max() <= 1    # visible parts: no pixel belongs to two objects
        assert np.array_equal(painted, np.where(semantic >= FIRST_OBJECT, semantic, 0))


def test_touching_objects_of_one_class_stay_apart():
    scenes = [draw_scene((96, 96), 0, 'train', index) for index in range(10)]
    several = 0
    for scene in scenes:
        annotations = coco_annotations(scene)
        assert len(annotations) == len(np.unique(scene.instances[scene.instances > 0]))
        several += len(annotations) > len({annotation['category_id'] for annotation in annotations})
    assert several    # the scenes do hold an image with two objects of a class


def test_the_same_set_is_left_alone_and_another_replaces_it(tmp_path):
    out = tmp_path / 'synthetic'
    assert write(out, num_train=4, num_val=2)
    before = contents(out)
    (out / 'images/train/00000.png').write_bytes(b'touched')
    assert not write(out, num_train=4, num_val=2)
    assert (out / 'images/train/00000.png').read_bytes() == b'touched'
    assert write(out, num_train=2, num_val=2)    # fewer images: none may be left over
    assert len(list((out / 'images/train').iterdir())) == 2
    assert write(out, num_train=4, num_val=2)
    assert contents(out) == before


def test_a_half_written_folder_is_written_anew(tmp_path):
    out = tmp_path / 'synthetic'

    def interrupted(jobs):
        yield from jobs[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(out, num_train=4, num_val=2, progress=interrupted)
    assert (out / 'images/train/00002.png').is_file()
    assert write(out, num_train=4, num_val=2)
    assert len(list((out / 'images/train').iterdir())) == 4
    assert not write(out, num_train=4, num_val=2)

    (out / 'synthetic.json').write_text('{"version"')    # killed while it wrote this file
    assert write(out, num_train=4, num_val=2)


@pytest.mark.parametrize(('change', 'culprit'), [
    (dict(num_train=0), 'train split needs at least 1 image, got 0'),
    (dict(num_val=-2), 'val split needs at least 1 image, got -2'),
    (dict(size=(128, 8)), '128 x 8'),
    (dict(size=(0, 128)), '0 x 128'),
    (dict(seed=-1), 'seed must not be negative, got -1'),
])
def test_bad_values_are_refused_before_anything_is_written(tmp_path, change, culprit):
    with pytest.raises(InputError, match=culprit):
        write(tmp_path / 'synthetic', **change)
    assert not (tmp_path / 'synthetic').exists()


def test_an_unknown_split_or_index_is_refused():
    with pytest.raises(InputError, match='test'):
        draw_scene(SIZE, 0, 'test', 0)
    with pytest.raises(InputError, match='-1'):
        draw_scene(SIZE, 0, 'val', -1)


def test_a_folder_with_something_else_is_not_touched(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/mine.png').write_bytes(b'mine')
    with pytest.raises(InputError, match='something else'):
        write(tmp_path)
    assert contents(tmp_path) == {'images/mine.png': b'mine'}
    with pytest.raises(InputError, match='is a file'):
        write(tmp_path / 'images/mine.png')


def test_objects_stand_in_the_folders_of_their_classes(tmp_path):
    assert write_synthetic_folders(tmp_path / 'set', num_train=16, num_val=9, size=(32, 40), seed=3)
    assert not write_synthetic_folders(tmp_path / 'set', num_train=16, num_val=9, size=(32, 40), seed=3)
    for split, count in (('train', 16), ('val', 9)):
        images = list((tmp_path / 'set' / split).glob('*/*.png'))
        assert len(images) == count
        assert {path.parent.name for path in images} == set(OBJECT_CLASSES)
        for path in images:
            image, label = draw_object((32, 40), 3, split, int(path.stem))
            assert path.parent.name == OBJECT_CLASSES[label]
            assert np.array_equal(np.asarray(Image.open(path)), image)


def test_one_kind_of_set_replaces_the_other(tmp_path):
    assert write(tmp_path / 'set')
    assert write_synthetic_folders(tmp_path / 'set', num_train=1, num_val=1, size=(32, 32))
    assert sorted(path.name for path in (tmp_path / 'set').iterdir()) == ['synthetic.json', 'train', 'val']
    assert write(tmp_path / 'set')
    assert not (tmp_path / 'set/train').exists()


def test_synthetic_module_needs_no_pycocotools_and_no_host():
    code = ('import sys; sys.modules.update(dict.fromkeys(["pycocotools", "mmcv", "mmengine", "mmseg", "mmdet", "torch"])); '
            'import mspe_mm.data.synthetic; print(mspe_mm.data.synthetic.__name__)')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout == 'mspe_mm.data.synthetic\n', done.stderr


def test_the_config_names_the_classes_in_order():
    config = Path(__file__).parents[2] / 'configs/_base_/datasets/synthetic.py'
    settings = {}
    exec(config.read_text(), settings)
    assert settings['metainfo'] == dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])
    assert json.dumps(settings['metainfo'])    # plain values, as mmengine's configs need them
