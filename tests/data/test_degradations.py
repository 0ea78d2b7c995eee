"""Degradations do what their names say, to 8-bit images of the size they had."""
import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from mspe_mm.data.degradations import AddBlur, AddNoise, CompressJPEG


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(40, 216, (24, 31, 3), dtype=np.uint8)


def degraded(transform, image, **results):
    before = image.copy()
    result = transform(dict(img=image, other=1, **results))
    assert result['other'] == 1
    assert np.array_equal(image, before)
    assert (result['img'].dtype, result['img'].shape) == (np.uint8, image.shape)
    return result['img'].astype(float)


def test_jpeg_is_pillows(image):
    smooth = np.asarray(Image.fromarray(image[:4, :4]).resize((31, 24), Image.Resampling.BICUBIC))
    for quality in (10, 50, 95):
        buffer = io.BytesIO()
        Image.fromarray(smooth[..., ::-1]).save(buffer, 'jpeg', quality=quality)
        expected = np.asarray(Image.open(buffer))[..., ::-1].astype(float)
        # The same tables and subsampling; the decoders may differ in their rounding.
        assert np.abs(degraded(CompressJPEG(quality), smooth) - expected).mean() < 1
        # The same picture in the order of timm's pipelines.
        rgb = degraded(CompressJPEG(quality), smooth[..., ::-1], channel_order='rgb')
        assert np.array_equal(rgb[..., ::-1], degraded(CompressJPEG(quality), smooth))
    errors = [np.abs(degraded(CompressJPEG(quality), smooth) - smooth).mean() for quality in (10, 50, 95)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize('sigma', [0.5, 1, 2.5])
def test_blur_is_a_gaussian(image, sigma):
    expected = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode='mirror', truncate=3)
    # OpenCV keeps 8-bit kernels of fixed point and as long as three sigma.
    assert np.abs(degraded(AddBlur(sigma), image) - expected).max() <= 2


def test_noise_has_the_spread_asked_for_and_stays_within_the_range(image):
    gray = np.full((200, 200, 3), 128, np.uint8)
    np.random.seed(0)
    noisy = degraded(AddNoise(5.), gray)
    assert noisy.mean() == pytest.approx(128, abs=5 * 5 / np.sqrt(gray.size))
    assert noisy.std() == pytest.approx((5**2 + 1 / 12)**0.5, rel=5 / np.sqrt(2 * gray.size))
    assert degraded(AddNoise(5.), np.zeros((50, 50, 3), np.uint8)).max() < 40    # clipped, not wrapped round
    assert degraded(AddNoise(5.), np.full((50, 50, 3), 255, np.uint8)).min() > 215
