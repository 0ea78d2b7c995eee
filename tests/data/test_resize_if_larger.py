"""ResizeIfLarger against the host's Resize."""
import numpy as np
import pytest
from helpers import in_threads
from hypothesis import given
from hypothesis import strategies as st
from mmcv.transforms import Resize
from mmdet.datasets.transforms import Resize as DetResize
from mmengine.registry import init_default_scope

from mspe_mm.data.resize_if_larger import ResizeIfLarger
from mspe_mm.errors import InputError

sides = st.integers(2, 90)    # the host makes nothing of a line


def picture(height, width):
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmengine')


@given(sides, sides, st.sampled_from([(40, 40), (60, 30), (30, 60)]))
def test_resize_if_larger_is_the_hosts_resize_or_leaves_the_image_alone(height, width, scale):
    image = picture(height, width)
    expected = Resize(scale=scale, keep_ratio=True)(dict(img=image))
    found = ResizeIfLarger(scale=scale, keep_ratio=True)(dict(img=image))
    if expected['img'].shape[0] > height or expected['img'].shape[1] > width:
        assert np.array_equal(found['img'], image)
        assert found['scale_factor'] == (1., 1.)
        assert found['img_shape'] == (height, width)
    else:
        assert np.array_equal(found['img'], expected['img'])
        assert found['scale_factor'] == expected['scale_factor']


@given(sides, sides)
def test_resize_if_larger_without_aspect_ratio_shrinks_each_side_that_is_larger(height, width):
    found = ResizeIfLarger(scale=(50, 30))(dict(img=picture(height, width)))
    assert found['img'].shape[:2] == found['img_shape'] == (min(height, 30), min(width, 50))
    assert found['scale_factor'] == (min(width, 50) / width, min(height, 30) / height)


def test_resize_if_larger_moves_boxes_as_the_hosts_resize():
    init_default_scope('mmdet')
    transform = ResizeIfLarger(scale=(40, 40), keep_ratio=True, backend='pillow')
    assert type(transform.resize) is DetResize
    for height, width, factor in ((80, 60, 0.5), (20, 10, 1.)):
        found = transform(dict(img=picture(height, width), gt_bboxes=np.array([[2., 4., 8., 10.]])))
        np.testing.assert_allclose(found['gt_bboxes'], np.array([[2., 4., 8., 10.]]) * factor)


def test_resize_if_larger_serves_threads_with_images_of_different_sizes():
    transform = ResizeIfLarger(scale=(40, 40), keep_ratio=True)
    sizes = [(20, 30), (80, 60), (10, 10), (41, 40)] * 10
    found = in_threads(lambda size: transform(dict(img=picture(*size)))['img'].shape[:2], sizes)
    assert found == [(20, 30), (40, 30), (10, 10), (40, 39)] * 10


@pytest.mark.parametrize('scale', [(40, ), (0, 10), (10., 10), 'x'])
def test_resize_if_larger_refuses_what_is_no_size(scale):
    with pytest.raises(InputError, match=r'must be \(width, height\) in pixels'):
        ResizeIfLarger(scale=scale)
