"""Pairs of images show the same places, patch by patch."""
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmseg.models import SegDataPreProcessor

from mspe_mm.calibration.solver import extract_patches
from mspe_mm.core import resize_image
from mspe_mm.data.change_resolution import ChangeResolution, imresize
from mspe_mm.data.image_folder import find_images
from mspe_mm.data.pairs import ImagePairs, evenly, image_steps, normalised
from mspe_mm.det import MSPEDetDataPreprocessor
from mspe_mm.errors import InputError

LOAD = dict(type='LoadImageFromFile')
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (7, 9, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def folder(tmp_path):
    """Images of 48 x 64 and of 53 x 70 px, base resolution."""
    for name, size in (('a.png', (48, 64)), ('b.PNG', (53, 70))):
        cv2.imwrite(str(tmp_path / name), picture(*size))
    return tmp_path


def patches(image, k):
    """(count, 3, k, k)."""
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].double()
    return extract_patches(tensor, (k, k)).reshape(-1, 3, k, k)


def halves(**settings):
    return {8: ChangeResolution((0.5, 0.5), **settings)}


def test_images_are_found_in_order_and_in_folders_inside(tmp_path):
    for name in ('b.png', 'a.JPG', 'c.txt', 'deep/er/d.jpeg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == ['a.JPG', 'b.png', 'deep/er/d.jpeg']


@given(st.integers(1, 50), st.integers(1, 50))
def test_indices_are_spread_evenly(count, among):
    count = min(count, among)
    indices = evenly(count, among)
    assert len(set(indices)) == count
    assert 0 <= indices[0] <= indices[-1] < among
    gaps = np.diff(indices)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
    assert abs(indices[0] - (among - 1 - indices[-1])) <= 1


def test_annotations_and_packing_are_left_out():
    checked = dict(type='CheckedLoading', transform=dict(type='LoadAnnotations'))
    pipeline = [dict(type='CheckedLoading', transform=LOAD), dict(type='Resize', scale=(8, 8)), checked,
                dict(type='mmseg.LoadAnnotations'), dict(type='PackSegInputs')]
    assert image_steps(pipeline) == pipeline[:2]
    assert image_steps([LOAD, dict(type='mmdet.PackDetInputs')]) == [LOAD]


def test_images_are_cut_to_whole_patches_before_they_are_shrunk(folder):
    pairs = ImagePairs(folder, find_images(folder), [LOAD], 16, halves())
    assert len(pairs) == 2
    for index, size in enumerate([(48, 64), (53, 70)]):
        image, resized = pairs[index]
        assert np.array_equal(image, picture(*size)[:48, :64])
        assert np.array_equal(resized[8], imresize(image, (24, 32)))


def test_patches_of_the_pair_show_the_same_place(folder):
    """Patch (i, j) shrunk alone is patch (i, j) of the shrunk image, but for what it mixes across its borders."""
    pairs = ImagePairs(folder, find_images(folder), [LOAD], 16, halves(interpolation='area'))
    for index in range(2):
        image, resized = pairs[index]
        alone = resize_image(patches(image, 16), (8, 8), 'area')
        together = patches(resized[8], 8)
        assert (alone - together).abs().max() <= 0.5 + 1e-9    # an area average of half the size mixes nothing: rounding


def test_the_steps_bring_the_image_to_the_base_resolution(folder):
    pairs = ImagePairs(folder, find_images(folder), [LOAD, dict(type='Resize', scale=(32, 16))], 16, {})
    assert [pairs[index][0].shape for index in range(2)] == [(16, 32, 3)] * 2


@pytest.mark.parametrize('rest', [0, 1])
def test_small_images_are_read_as_they_are(folder, tmp_path, rest):
    (tmp_path / 'low').mkdir()
    for name, size in (('a.png', (24 + rest, 32)), ('b.PNG', (27, 35 - rest))):    # 26.5 x 35
        cv2.imwrite(str(tmp_path / 'low' / name), picture(*size, seed=1))
    pairs = ImagePairs(folder, ['a.png', 'b.PNG'], [LOAD, dict(type='Resize', scale=(70, 53))], 16, {8: tmp_path / 'low'})
    pairs.to_base = lambda results: results
    assert np.array_equal(pairs[0][1][8], picture(24 + rest, 32, seed=1))
    assert np.array_equal(pairs[1][1][8], picture(27, 35 - rest, seed=1))


@pytest.mark.parametrize(('size', 'sentence'), [
    (None, r'low/a\.png does not exist: .* the same file names'),
    ((26, 32), r'low/a\.png is 26 x 32 px, and for patches of 8 px it must be 24 x 32'),
    ((24, 30), 'is 24 x 30 px'),
])
def test_small_images_that_do_not_belong_are_refused_by_name(folder, tmp_path, size, sentence):
    (tmp_path / 'low').mkdir()
    if size:
        cv2.imwrite(str(tmp_path / 'low/a.png'), picture(*size))
    with pytest.raises(InputError, match=sentence):
        ImagePairs(folder, ['a.png'], [LOAD], 16, {8: str(tmp_path / 'low')})[0]


def test_an_image_smaller_than_a_patch_is_refused_by_name(folder):
    with pytest.raises(InputError, match=r'a\.png is 48 x 64 px at the base resolution, smaller than a patch of 50 px'):
        ImagePairs(folder, ['a.png'], [LOAD], 50, {})[0]


@pytest.mark.parametrize(('preprocessor', 'size'), [
    (SegDataPreProcessor(mean=MEAN, std=STD, bgr_to_rgb=True), (33, 40)),
    (SegDataPreProcessor(mean=MEAN, std=STD, bgr_to_rgb=True, test_cfg=dict(size_divisor=32)), (33, 40)),
    (MSPEDetDataPreprocessor(img_size=64, mean=MEAN, std=STD, bgr_to_rgb=True), (33, 40)),
    (MSPEDetDataPreprocessor(img_size=64, mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32), (48, 64)),
])
def test_images_are_normalised_as_the_model_sees_them_and_stay_their_size(preprocessor, size):
    image = picture(*size)
    expected = (image[..., ::-1].astype(np.float64) - MEAN) / STD
    np.testing.assert_allclose(normalised(image, preprocessor)[0].permute(1, 2, 0).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('name', 'sentence'), [('nowhere', 'nowhere does not exist'), ('empty', 'no images in .*empty')])
def test_a_folder_without_images_is_refused(tmp_path, name, sentence):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=sentence):
        find_images(tmp_path / name)
