"""Test images reach their resolution by the downsampling model that the layer assumes."""
import numpy as np
import pytest
import torch

from mspe_mm.core import resize_image
from mspe_mm.data.change_resolution import ChangeResolution, at_resolution, imresize
from mspe_mm.data.degradations import AddBlur, CompressJPEG
from mspe_mm.errors import InputError


@pytest.fixture
def image():
    # Away from 0 and 255: PIL clips the overshoot of bicubic between the axes, the linear model does not.
    return np.random.default_rng(0).integers(80, 176, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize(('interpolation', 'antialias'), [
    ('bilinear', True), ('bilinear', False), ('bicubic', True), ('bicubic', False), ('area', True), ('nearest', True)])
@pytest.mark.parametrize('size', [(12, 16), (24, 16), (36, 48)])
def test_eight_bit_images_are_resized_by_the_named_model(image, interpolation, antialias, size):
    expected = resize_image(torch.from_numpy(image).permute(2, 0, 1)[None].double(), size, interpolation, antialias)
    expected = expected[0].permute(1, 2, 0).numpy()
    actual = imresize(image, size, interpolation, antialias)
    assert actual.dtype == np.uint8
    # Half a grey level of rounding at the end and, in PIL, another between the axes, times the sum of the second axis'
    # absolute weights: up to 1.27 for bicubic.
    assert np.abs(actual - expected).max() <= 0.5 + 0.5 * 1.27


def test_images_of_floats_are_not_rounded(image):
    expected = resize_image(torch.from_numpy(image).permute(2, 0, 1)[None].float(), (12, 16))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(imresize(image.astype(np.float32), (12, 16)), expected)


def test_size_and_scale_factor_follow_and_annotations_stay(image):
    mask = np.arange(48 * 64).reshape(48, 64)
    results = ChangeResolution((0.25, 0.5))(dict(img=image, img_shape=(48, 64), scale_factor=(2., 2.), gt_seg_map=mask))
    assert results['img'].shape == (12, 32, 3)
    assert results['img_shape'] == (12, 32)
    assert results['scale_factor'] == (1., 0.5)
    assert results['gt_seg_map'] is mask


def test_restoring_brings_the_size_back_but_not_the_detail(image):
    results = ChangeResolution((0.25, 0.25), restore=True)(dict(img=image, img_shape=(48, 64), scale_factor=(2., 2.)))
    assert results['img'].shape == (48, 64, 3)
    assert results['scale_factor'] == (2., 2.)
    small = imresize(image, (12, 16))
    assert np.array_equal(results['img'], imresize(small, (48, 64)))


def test_restoring_to_a_share_of_the_size(image):
    results = ChangeResolution((0.25, 0.25), restore=(0.5, 0.75))(dict(img=image, img_shape=(48, 64), scale_factor=(2., 2.)))
    assert np.array_equal(results['img'], imresize(imresize(image, (12, 16)), (24, 48)))
    assert results['img_shape'] == (24, 48)
    assert results['scale_factor'] == (1.5, 1.)


def test_the_base_resolution_leaves_the_image_as_it_is(image):
    assert np.array_equal(ChangeResolution((1., 1.))(dict(img=image))['img'], image)


def test_it_stands_right_before_packing():
    pipeline = at_resolution([dict(type='Load'), dict(type='Resize'), dict(type='Pack')], scale=(0.5, 0.5))
    assert [step['type'] for step in pipeline] == ['Load', 'Resize', 'ChangeResolution', 'Pack']


def test_small_images_are_enlarged_first_so_that_all_lose_the_same_share():
    steps = [dict(type='Load'), dict(type='ResizeIfLarger', scale=(8, 8)), dict(type='TimmTransform', keep_small=True),
             dict(type='Pack')]
    pipeline = at_resolution(steps, scale=(0.5, 0.5))
    assert pipeline[1:3] == [dict(type='Resize', scale=(8, 8)), dict(type='TimmTransform', keep_small=False)]
    assert steps[1]['type'] == 'ResizeIfLarger'    # the config's own is as it was


def degrade(image, *steps, scale=(0.25, 0.25), **settings):
    results = dict(img=image, img_shape=image.shape[:2], scale_factor=(2., 2.))
    return ChangeResolution(scale, degrade=steps, **settings)(results)


def test_a_degradation_has_the_place_of_the_resize(image):
    small = imresize(image, (12, 16), 'area')
    results = degrade(image, dict(type='ChangeResolution', interpolation='area'))
    assert np.array_equal(results['img'], small)
    assert (results['img_shape'], results['scale_factor']) == ((12, 16), (0.5, 0.5))
    blurred = degrade(image, dict(type='AddBlur', sigma=2), dict(type='ChangeResolution', interpolation='area'))['img']
    assert not np.array_equal(blurred, small)
    assert np.array_equal(blurred, imresize(AddBlur(2)(dict(img=image))['img'], (12, 16), 'area'))


def test_without_a_resize_of_its_own_a_degradation_is_of_the_small_image(image):
    results = degrade(image, dict(type='CompressJPEG', quality=30), interpolation='bicubic')
    expected = CompressJPEG(30)(dict(img=imresize(image, (12, 16), 'bicubic')))['img']
    assert np.array_equal(results['img'], expected)


def test_a_degraded_image_can_be_brought_back_to_its_size(image):
    results = degrade(image, dict(type='CompressJPEG', quality=30), restore=True)
    small = CompressJPEG(30)(dict(img=imresize(image, (12, 16))))['img']
    assert np.array_equal(results['img'], imresize(small, (48, 64)))
    assert results['scale_factor'] == (2., 2.)


def test_a_degradation_that_makes_another_size_is_refused(image):
    with pytest.raises(InputError, match='images of 5 x 5 px where 12 x 16 px are asked for'):
        degrade(image, dict(type='Resize', scale=(5, 5)))
