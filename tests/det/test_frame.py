"""The reference frame: from pixels of a batch to pixels of the base resolution and back."""
import contextlib
import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.structures import DetDataSample

from mspe_mm.core import MultiScalePatchEmbed
from mspe_mm.det.data_preprocessor import MSPEDetDataPreprocessor
from mspe_mm.det.frame import canvas_size, frame_metainfo, frame_scale, in_frame

BASE = 1024
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def layer(policy='fixed', grid=(64, 64)):
    return MultiScalePatchEmbed(1, 2, 16, grid, kernel_policy=policy)


LAYERS = {policy: layer(policy) for policy in ('fixed', 'isotropic', 'constant')}


@pytest.mark.parametrize(('image', 'canvas'), [
    ((1024, 683), (1024, 1024)),
    ((512, 512), (512, 512)),
    ((384, 512), (512, 512)),
    ((500, 375), (512, 512)),
    ((513, 10), (576, 576)),
    ((800, 1333), (1344, 1344)),
    ((1, 1), (64, 64)),
])
def test_canvas(image, canvas):
    assert canvas_size([image], (64, 64)) == canvas
    assert canvas_size([image, (1, 1)], (64, 64)) == canvas


def test_canvas_of_a_non_square_frame():
    assert canvas_size([(640, 480)], (30, 40)) == (22 * 30, 22 * 40)    # portrait on a landscape frame
    assert canvas_size([(100, 100)], (64, 64), at_least=16) == (1024, 1024)


@given(st.lists(sizes, min_size=1, max_size=4), st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_every_image_fits_and_nothing_smaller_would_do(images, grid):
    height, width = canvas_size(images, grid)
    k = height // grid[0]
    assert (height, width) == (k * grid[0], k * grid[1])
    assert all(h <= height and w <= width for h, w in images)
    assert k == 1 or any(h > (k - 1) * grid[0] or w > (k - 1) * grid[1] for h, w in images)


@given(sizes, st.tuples(st.integers(1, 70), st.integers(1, 70)), st.integers(1, 20))
def test_a_stock_canvas_has_whole_patches_in_the_shape_of_the_base_grid(image, grid, patch):
    height, width = canvas_size([image], grid, stock_patch=patch)
    assert height % patch == width % patch == 0
    assert height >= image[0]
    assert width >= image[1]
    rows, columns = grid
    if image[0] * columns >= image[1] * rows and image[0] >= rows:    # as high as the shape of the grid, or higher
        assert height == -(-image[0] // patch) * patch
        assert width - patch < image[0] * columns / rows <= width


def test_the_stock_detector_gets_images_of_any_whole_patches():
    assert canvas_size([(128, 128)], (12, 12)) == (132, 132)
    assert canvas_size([(128, 128)], (12, 12), stock_patch=16) == (128, 128)


@given(sizes)
def test_an_image_on_its_canvas_has_the_base_token_grid_and_one_scale(image):
    canvas = canvas_size([image], (64, 64))
    for policy in ('fixed', 'isotropic'):
        assert LAYERS[policy].token_grid(canvas) == (64, 64)
        vertical, horizontal = frame_scale(LAYERS[policy], canvas)
        assert vertical == horizontal == pytest.approx(BASE / canvas[0])
    assert frame_scale(LAYERS['constant'], canvas) == (1, 1)


@given(sizes, sizes, st.sampled_from(sorted(LAYERS)))
def test_a_point_of_the_original_comes_back(original, batch, policy):
    """Wherever the token of a point is, the heads' coordinates of it divide back to the point in the original image."""
    patch_embed = LAYERS[policy]
    image = tuple(min(o, b) for o, b in zip(original, batch))
    meta = dict(
        ori_shape=original, img_shape=image, pad_shape=batch, batch_input_shape=batch,
        scale_factor=(image[1] / original[1], image[0] / original[0]))
    frame = frame_metainfo(meta, patch_embed, batch)
    for axis, factor in ((0, frame['scale_factor'][1]), (1, frame['scale_factor'][0])):
        patch = patch_embed.kernel_size(batch)[axis] * batch[axis] / patch_embed.fitted_size(batch)[axis]    # of the batch
        for point in (0, image[axis] / 3, image[axis]):    # in the batch; its place among tokens of 16 frame pixels:
            in_frame_pixels = point / patch * 16
            assert in_frame_pixels / factor == pytest.approx(point * original[axis] / image[axis], abs=1e-6)
            assert in_frame_pixels <= frame['img_shape'][axis]    # not clipped
        assert image[axis] / patch * 16 > frame['img_shape'][axis] - 1
        assert frame['img_shape'][axis] <= frame['pad_shape'][axis] <= frame['batch_input_shape'][axis]
        assert frame['batch_input_shape'][axis] == patch_embed.token_grid(batch)[axis] * 16
    assert all(isinstance(length, int) for key in ('img_shape', 'pad_shape', 'batch_input_shape') for length in frame[key])


def test_512_on_a_1024_frame():
    meta = dict(
        ori_shape=(427, 640), img_shape=(342, 512), pad_shape=(512, 512), batch_input_shape=(512, 512),
        scale_factor=(0.8, 342 / 427))
    assert frame_metainfo(meta, layer(), (512, 512)) == dict(
        img_shape=(684, 1024), pad_shape=(1024, 1024), batch_input_shape=(1024, 1024),
        scale_factor=(1.6, 2 * 342 / 427))


def test_axes_are_not_confused():
    frame = frame_metainfo(dict(img_shape=(512, 192), scale_factor=(2., 3.)), layer(), (512, 256))
    assert frame['scale_factor'] == (2 * 4, 3 * 2)
    assert frame['img_shape'] == (1024, 768)


def test_image_that_was_never_resized():
    assert frame_metainfo(dict(img_shape=(512, 512)), layer(), (512, 512))['scale_factor'] == (2, 2)


def sample(**meta):
    return DetDataSample(metainfo=dict(img_id=3, ori_shape=(60, 80), **meta))


def test_context_gives_the_metadata_back():
    samples = [sample(img_shape=(300, 400), scale_factor=(5., 5.), pad_shape=(512, 512)), sample(img_shape=(512, 512))]
    before = copy.deepcopy([s.metainfo for s in samples])
    with in_frame(layer(), (512, 512), samples):
        assert samples[0].img_shape == (600, 800)
        assert samples[0].scale_factor == (10, 10)
        assert samples[1].scale_factor == (2, 2)
        assert samples[1].batch_input_shape == (1024, 1024)
    assert [s.metainfo for s in samples] == before
    with contextlib.suppress(RuntimeError), in_frame(layer(), (512, 512), samples):
        raise RuntimeError
    assert [s.metainfo for s in samples] == before


def test_nothing_is_touched_at_the_base_resolution():
    samples = [sample(img_shape=(1000, 1024), scale_factor=(1.5, 1.5))]
    before = copy.deepcopy(samples[0].metainfo)
    with in_frame(layer(), (1024, 1024), samples):
        assert samples[0].metainfo == before
    with in_frame(layer('constant'), (512, 512), samples):
        assert samples[0].metainfo == before
    with in_frame(layer(), (512, 512), None):
        pass


def preprocess(images, training=False, **kwargs):
    settings = dict(img_size=64, mean=[0, 0, 0], std=[1, 1, 1])
    model = MSPEDetDataPreprocessor(**{**settings, **kwargs})
    samples = [DetDataSample(metainfo=dict(img_shape=tuple(image.shape[-2:]))) for image in images]
    return model(dict(inputs=images, data_samples=samples), training)


def test_batch_of_mixed_sizes_shares_a_canvas():
    images = [torch.full((3, 20, 30), 7, dtype=torch.uint8), torch.full((3, 37, 11), 9, dtype=torch.uint8)]
    out = preprocess(images)
    assert out['inputs'].shape == (2, 3, 40, 40)
    for i, (h, w) in enumerate([(20, 30), (37, 11)]):
        assert (out['inputs'][i, :, :h, :w] == (7, 9)[i]).all()
        assert (out['inputs'][i] == 114).sum() == 3 * (40 * 40 - h * w)
        assert out['data_samples'][i].img_shape == (h, w)
        assert out['data_samples'][i].pad_shape == out['data_samples'][i].batch_input_shape == (40, 40)


def test_training_canvas_is_the_base_resolution():
    assert preprocess([torch.zeros(3, 20, 30)], training=True)['inputs'].shape == (1, 3, 64, 64)
    assert preprocess([torch.zeros(3, 20, 70)], training=True)['inputs'].shape == (1, 3, 72, 72)


def test_canvas_is_filled_before_normalisation_in_the_loaded_channel_order():
    out = preprocess([torch.zeros(3, 16, 10)], mean=[1, 2, 3], std=[2, 2, 2], bgr_to_rgb=True, canvas_value=[10, 20, 30])
    assert out['inputs'][0, :, 0, 15].tolist() == [(30 - 1) / 2, (20 - 2) / 2, (10 - 3) / 2]


def test_stacked_batch():
    out = MSPEDetDataPreprocessor(img_size=(32, 64), mean=[0, 0, 0], std=[1, 1, 1])(
        dict(inputs=torch.zeros(2, 3, 20, 20), data_samples=None))
    assert out['inputs'].shape == (2, 3, 20, 40)
