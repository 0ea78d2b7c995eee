"""Resamples of images and intervals of metrics."""
import numpy as np
import pytest

from mspe_mm.bootstrap import interval, resampled_counts


def test_resampled_counts_draw_as_many_images_as_there_are_the_same_in_every_call():
    counts = resampled_counts(7, 50)
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.std(axis=0).min() > 0
    assert np.array_equal(counts, resampled_counts(7, 50))


def test_resampled_counts_of_one_image_are_ones():
    assert (resampled_counts(1, 5) == 1).all()


def test_interval_holds_95_percent_of_the_samples():
    assert interval(np.arange(0, 101)) == pytest.approx([2.5, 97.5])
