"""Images without annotations, through the training pipelines of every host."""
import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

import mspe_mm.cls
import mspe_mm.det
import mspe_mm.seg  # noqa: F401
from mspe_mm.data.image_folder import ImageFolder
from mspe_mm.errors import InputError

LOAD = dict(type='LoadImageFromFile')
PIPELINES = {
    'mmseg': [LOAD, dict(type='RandomResize', scale=(80, 60), ratio_range=(0.5, 2.0), keep_ratio=True),
              dict(type='RandomCrop', crop_size=(48, 64)), dict(type='RandomFlip', prob=0.5),
              dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')],
    'mmdet': [LOAD, dict(type='RandomFlip', prob=0.5),
              dict(type='RandomResize', scale=(64, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
              dict(type='RandomCrop', crop_type='absolute_range', crop_size=(64, 64)),
              dict(type='Pad', size=(64, 64), pad_val=dict(img=(114, 114, 114))), dict(type='PackDetInputs')],
    'mmengine': [dict(type='LoadRGBImage'), dict(type='TimmTransform', img_size=32, is_training=True, scale=(0.6, 1)),
                 dict(type='PackImage')],
}


@pytest.fixture
def folder(tmp_path):
    """Two images of a folder and one of a folder inside, landscape and portrait; and a file that is none."""
    for name, size in (('b.png', (53, 70)), ('a.JPG', (90, 41)), ('more/c.png', (48, 64))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    (tmp_path / 'labels.txt').write_text('none')
    return tmp_path


@pytest.mark.parametrize('scope', PIPELINES)
def test_every_host_trains_on_images_alone(folder, scope):
    with DefaultScope.overwrite_default_scope(scope):
        dataset = DATASETS.build(dict(type='ImageFolder', data_root=str(folder), pipeline=PIPELINES[scope]))
        assert isinstance(dataset, ImageFolder)
        for _ in range(5):    # whatever the augmentation draws
            for index in range(3):
                packed = dataset[index]
                assert packed['inputs'].shape[0] == 3
                assert packed['data_samples'].img_path.endswith(('a.JPG', 'b.png', 'more/c.png')[index])
                assert not {'gt_sem_seg', 'gt_label'} & {*packed['data_samples'].keys()}


def test_the_folder_is_a_root_with_a_prefix_and_has_the_classes_that_it_is_given(folder):
    dataset = ImageFolder(data_root=str(folder), data_prefix=dict(img_path='more'), metainfo=dict(classes=('sky', )))
    assert [info['img_path'] for info in dataset] == [str(folder / 'more/c.png')]
    assert dataset.metainfo['classes'] == ('sky', )


def test_a_folder_that_is_missing_or_without_images_is_refused_by_name(folder):
    with pytest.raises(InputError, match='nowhere does not exist'):
        ImageFolder(data_root=str(folder / 'nowhere'))
    (folder / 'empty').mkdir()
    with pytest.raises(InputError, match=r'no images in .*empty \(\.jpg'):
        ImageFolder(data_root=str(folder / 'empty'))
