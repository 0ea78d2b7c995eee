"""Data that would end in a wrong number is refused by name."""
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.registry import init_default_scope

from mspe_mm.errors import InputError
from mspe_mm.runtime.data_checks import CheckedLoading, DataCheckHook, check_data, empty_data_set

LOOP = SimpleNamespace(dataloader=SimpleNamespace(sampler=None, batch_sampler=None))


@pytest.fixture(autouse=True)
def _mmseg_scope():
    import mmseg.datasets.transforms  # noqa: F401
    init_default_scope('mmseg')


@pytest.fixture
def sample(tmp_path):
    """Paths of an image of 8 x 12 px and of its mask with classes 0 and 2 and ignored pixels."""
    cv2.imwrite(str(tmp_path / 'image.png'), np.full((8, 12, 3), 7, np.uint8))
    mask = np.zeros((8, 12), np.uint8)
    mask[:4], mask[4:, :3] = 2, 255
    cv2.imwrite(str(tmp_path / 'mask.png'), mask)
    return dict(img_path=str(tmp_path / 'image.png'), seg_map_path=str(tmp_path / 'mask.png'), seg_fields=[],
                reduce_zero_label=False, label_map=None)


def load(sample, num_classes=3):
    image = CheckedLoading(dict(type='LoadImageFromFile'), num_classes)
    mask = CheckedLoading(dict(type='LoadAnnotations'), num_classes)
    return mask(image(dict(sample)))


def test_good_files_load_as_in_the_host(sample):
    results = load(sample)
    assert results['img'].shape == (8, 12, 3)
    assert (results['img'] == 7).all()
    assert set(np.unique(results['gt_seg_map'])) == {0, 2, 255}


@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
@pytest.mark.parametrize('content', [b'', b'no picture', b'\x89PNG\r\n\x1a\n truncated'])
def test_a_file_that_cannot_be_decoded_is_named(sample, key, content):
    with open(sample[key], 'wb') as file:
        file.write(content)
    with pytest.raises(InputError, match=rf'{sample[key]} cannot be decoded'):
        load(sample)


@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_a_missing_file_is_named(sample, key):
    sample[key] += '.missing'
    with pytest.raises(InputError, match=rf'{sample[key]} does not exist'):
        load(sample)


def test_a_mask_of_another_size_is_named_with_both_sizes(sample):
    cv2.imwrite(sample['seg_map_path'], np.zeros((8, 11), np.uint8))
    with pytest.raises(InputError, match=r'mask.png is 8 x 11 px, and its image .*image.png is 8 x 12 px'):
        load(sample)


def test_a_class_that_the_config_does_not_have_is_named(sample):
    with pytest.raises(InputError, match=r'mask.png holds class 2, and the config has 2 classes'):
        load(sample, num_classes=2)


def test_the_size_is_compared_with_the_original_image_after_a_resize(sample):
    image = CheckedLoading(dict(type='LoadImageFromFile'), 3)
    mask = CheckedLoading(dict(type='LoadAnnotations'), 3)
    results = image(dict(sample))
    results['img'] = results['img'][::2, ::2]    # what Resize before LoadAnnotations does in a test pipeline
    results['img_shape'] = results['img'].shape[:2]
    assert mask(results)['gt_seg_map'].shape == (8, 12)


def test_an_empty_data_set_names_its_folder():
    dataset = dict(type='BaseSegDataset', data_root='some', data_prefix=dict(img_path='folder'))
    assert 'no images in some/folder' in str(empty_data_set(dict(type='RepeatDataset', dataset=dataset)))


class Head(torch.nn.Module):
    num_classes, ignore_index = 3, 255


def segmentor(head=None):
    model = torch.nn.Module()
    model.decode_head = head or Head()
    return model


def dataset_of(sample, folder, pipeline):
    """The one image of ``sample``, as a data set of mmseg."""
    from mmseg.registry import DATASETS
    prefix = dict(img_path=str(folder / 'images'), seg_map_path=str(folder / 'masks'))
    for key, target in (('img_path', 'images'), ('seg_map_path', 'masks')):
        (folder / target).mkdir(exist_ok=True)
        shutil.copy(sample[key], folder / target / 'a.png')
    return DATASETS.build(dict(type='BaseSegDataset', data_prefix=prefix, img_suffix='.png', seg_map_suffix='.png',
                               metainfo=dict(classes=('a', 'b', 'c')), pipeline=pipeline))


LOADING = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


@pytest.mark.parametrize('wrap', [
    lambda data: data, lambda data: ConcatDataset([data, data]), lambda data: RepeatDataset(data, 2)])
def test_check_data_wraps_the_loading_transforms_of_a_built_data_set(sample, tmp_path, wrap):
    data = dataset_of(sample, tmp_path, [*LOADING, dict(type='PackSegInputs')])
    check_data(wrap(data), segmentor())
    check_data(wrap(data), segmentor())    # once only
    first, second, pack = data.pipeline.transforms
    assert [type(step).__name__ for step in (first.loading, second.loading, pack)] == [
        'LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
    assert (second.num_classes, second.ignore_index) == (3, 255)


def test_check_data_takes_the_classes_of_the_last_head_of_a_cascade(sample, tmp_path):
    last = Head()
    last.num_classes = 2
    data = dataset_of(sample, tmp_path, LOADING)
    check_data(data, segmentor(torch.nn.ModuleList([Head(), last])))
    with pytest.raises(InputError, match=r'a\.png holds class 2, and the config has 2 classes'):
        data[0]


def test_check_data_reaches_the_branches_of_test_time_augmentation(sample, tmp_path):
    flips = [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)]
    data = dataset_of(sample, tmp_path, [LOADING[0], dict(type='TestTimeAug', transforms=[flips, LOADING[1:]])])
    check_data(data, segmentor())
    (tmp_path / 'masks/a.png').write_bytes(b'no picture')
    with pytest.raises(InputError, match=r'masks/a.png cannot be decoded'):
        data[0]


def test_data_check_hook_checks_the_data_of_every_loop(sample, tmp_path):
    hook = DataCheckHook()
    for loop in ('train', 'val', 'test'):
        data = dataset_of(sample, tmp_path, LOADING)
        runner = SimpleNamespace(model=segmentor(), train_loop=LOOP, val_loop=None,
                                 **{f'{loop}_dataloader': SimpleNamespace(dataset=data)})
        getattr(hook, f'before_{loop}')(runner)
        assert all(isinstance(step, CheckedLoading) for step in data.pipeline.transforms)


def test_data_check_hook_checks_the_data_of_the_validation_before_a_training(sample, tmp_path):
    train, val = (SimpleNamespace(dataset=dataset_of(sample, tmp_path, LOADING)) for _ in range(2))
    DataCheckHook().before_train(
        SimpleNamespace(model=segmentor(), train_loop=LOOP, val_loop=True, train_dataloader=train, val_dataloader=val))
    for loader in (train, val):
        assert all(isinstance(step, CheckedLoading) for step in loader.dataset.pipeline.transforms)


def test_checked_loading_refuses_16_bit_classes_that_wrap(sample):
    mask = np.zeros((8, 12), np.uint16)
    mask[0] = 258
    cv2.imwrite(sample['seg_map_path'], mask)
    with pytest.raises(InputError, match=r'mask.png holds class 258, and masks are read with 8 bits'):
        load(sample)


def test_checked_loading_takes_16_bit_files_of_small_classes(sample):
    cv2.imwrite(sample['seg_map_path'], np.full((8, 12), 2, np.uint16))
    assert (load(sample)['gt_seg_map'] == 2).all()


def test_checked_loading_refuses_masks_of_several_channels(sample):
    cv2.imwrite(sample['seg_map_path'], np.zeros((8, 12, 3), np.uint8))
    with pytest.raises(InputError, match=r'mask.png has 3 channels: a mask must have one'):
        load(sample)
