"""Predictions of several methods side by side, by the command line."""
import numpy as np
import pytest
from PIL import Image

from mspe_mm.evaluation import panels as module


@pytest.fixture(scope='module')
def drawn(world):
    """What the tool would draw, and its picture."""
    found, draw = {}, module.draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, 'draw', lambda panels, *args: found.update(panels) or draw(panels, *args))
        world.call('show_panels.py', 'mspe.py', 'base.pth', '--adapter', 'adapter.safetensors', '--resolutions', 16, 32, 64,
                   '--images', 2, '--out', 'panels.png')
    return found, Image.open(world.folder / 'panels.png').convert('RGB')


def test_all_methods_show_the_same_images(drawn):
    panels, _ = drawn
    assert {method for method, _ in panels} == {'vanilla', 'img_resize', 'flexivit', 'prior', 'mspe'}
    for (method, (height, width)), pair in panels.items():
        for panel, reference in zip(pair, panels['vanilla', (64, 64)]):
            assert panel.image.shape == ((64, 64, 3) if method == 'img_resize' else (height, width, 3))
            assert panel.prediction.shape == panel.annotation.shape == (64, 64)
            assert np.array_equal(panel.annotation, reference.annotation)
    for method in ('img_resize', 'flexivit', 'prior', 'mspe'):    # at the base resolution they are one model
        for panel, reference in zip(panels[method, (64, 64)], panels['vanilla', (64, 64)]):
            assert np.array_equal(panel.prediction, reference.prediction)


def test_colours_are_those_of_the_image_and_the_classes(drawn, world):
    panels, picture = drawn
    folder = world.folder / 'data/images/val'
    first = min(panels['vanilla', (64, 64)], key=lambda panel: panel.image.mean()).image
    assert any(np.array_equal(first, np.asarray(Image.open(path))) for path in folder.iterdir())    # RGB, not BGR
    assert picture.width > picture.height    # 7 columns, and 6 rows: 2 images at 3 resolutions


def test_bad_arguments_get_one_sentence(world):
    options = 'mspe.py', 'base.pth', '--resolutions', 16, '--out', 'x.png'
    assert '--images must be from 1 to the 4 images' in world.fails('show_panels.py', *options, '--images', 9)
    assert 'needs --calibrated FILE' in world.fails('show_panels.py', *options, '--methods', 'calibrated')
