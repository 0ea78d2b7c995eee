"""Overlays: colours, boxes and legends where they belong."""
import numpy as np
import pytest

from mspe_mm.inference.painting import colors_of, enlarged, paint_instances, paint_labels

GREY = np.full((300, 400, 3), 100, np.uint8)
RED, GREEN = (200, 0, 0), (0, 200, 0)


def test_colors_of_are_the_palette_and_differ_where_it_ends():
    colors = colors_of(40, [RED, GREEN])
    assert colors[:2] == [RED, GREEN]
    assert len(set(colors)) == len(colors) == 40
    assert colors_of(3, 'random') == colors_of(3)    # mmdet's word for no palette


def test_paint_labels_mixes_image_and_colour_and_lists_what_it_has():
    labels = np.zeros((300, 400), int)
    labels[:100] = 1
    picture = np.asarray(paint_labels(GREY, labels, ('a', 'b', 'c'), [RED, GREEN, (0, 0, 200)]))
    assert picture.shape[0] == 300
    assert tuple(picture[200, 50]) == (150, 50, 50)
    assert tuple(picture[50, 50]) == (50, 150, 50)
    legend = {tuple(pixel) for pixel in picture[:, 400:].reshape(-1, 3)}
    assert RED in legend
    assert GREEN in legend
    assert (0, 0, 200) not in legend    # there is no c
    red, green = (np.argwhere((picture[:, 400:] == color).all(2))[:, 0] for color in (RED, GREEN))
    assert red.max() < green.min()    # the largest first


@pytest.mark.parametrize('masks', [False, True])
def test_paint_instances_draws_boxes_masks_and_a_legend(masks):
    inside = np.zeros((1, 300, 400), bool)
    inside[0, 110:140, 60:90] = True
    picture = np.asarray(paint_instances(GREY, np.array([[50., 100., 150., 200.]]), np.array([1]), np.array([0.9]),
                                         inside if masks else None, ('a', 'b'), [RED, GREEN]))
    assert tuple(picture[150, 50]) == tuple(picture[150, 150]) == tuple(picture[200, 100]) == GREEN
    assert tuple(picture[120, 70]) == ((50, 150, 50) if masks else (100, 100, 100))
    assert tuple(picture[250, 300]) == (100, 100, 100)
    assert GREEN in {tuple(pixel) for pixel in picture[:, 400:].reshape(-1, 3)}


def test_overlays_of_small_images_are_enlarged_with_what_is_on_them():
    small = GREY[:32, :64]
    assert enlarged(small).shape == (128, 256, 3)
    assert enlarged(GREY).shape == GREY.shape
    picture = np.asarray(paint_instances(small, np.array([[10., 5., 40., 20.]]), np.array([0]), np.array([0.9]), None,
                                         ('a', ), [RED]))
    assert tuple(picture[50, 40]) == tuple(picture[80, 100]) == RED


def test_paint_instances_of_nothing_is_the_image():
    nothing = np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)
    assert np.array_equal(np.asarray(paint_instances(GREY, *nothing, None, ('a', ), [RED])), GREY)
