"""The pictures of the page: what the sweep predicts, by each method, for every task."""
from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

import mspe_mm
from mspe_mm.app import comparison
from mspe_mm.app.comparison import compare
from mspe_mm.evaluation.report import LABELS
from mspe_mm.evaluation.sweep import prepared
from mspe_mm.inference.overlay import overlay
from mspe_mm.runtime.data_checks import check_data

pytestmark = pytest.mark.slow

TASKS = ('segmentation', 'detection', 'classification')
METHODS = ('vanilla', 'img_resize', 'flexivit', 'prior', 'mspe')
CANNOT_RUN = 'Vanilla: cannot run at this size'


def of(*names):
    return pytest.mark.parametrize('task', names, indirect=True)


def quarter(predictor):
    return tuple(length // 4 for length in predictor.model.mspe_layer.base_resolution)


def by_the_sweep(predictor, method, resolution, path):
    """What the sweep predicts on an image of the test set."""
    with prepared(SimpleNamespace(cfg=predictor.model.cfg, model=predictor.model), method, resolution) as (loader, _, _):
        dataset = DATASETS.build(loader.dataset)
        check_data(dataset, predictor.model)
        for item in dataset:
            if os.path.realpath(item['data_samples'].img_path) == os.path.realpath(path):
                return predictor.model.test_step({key: [value] for key, value in item.items()})[0]
    raise AssertionError(f'{path} is not in the test set')


@of(*TASKS)
def test_compare_shows_the_predictions_of_the_sweep(task, monkeypatch):
    monkeypatch.setattr(comparison, 'overlay', lambda *args: overlay(*args, min_score=0.))    # all detections
    predictor = mspe_mm.load('mspe.py', 'stock.pth', 'adapter.safetensors', device='cpu')
    path, resolution = task.images[1], quarter(predictor)
    image = Image.open(path).convert('RGB')
    pictures = compare(predictor, image, resolution)
    assert [caption.partition(': ')[0] for _, caption in pictures[1:]] == [LABELS[method] for method in METHODS]
    assert all(caption.endswith(' ms') and float(caption.split()[-2]) > 0 for _, caption in pictures[1:])
    for method, (picture, _) in zip(METHODS, pictures[1:]):
        expected = overlay(np.asarray(image), by_the_sweep(predictor, method, resolution, path), predictor.classes,
                           predictor.palette, min_score=0.)
        assert picture.crop((0, 0, *expected.size)) == expected, method
    assert len({picture.size for picture, _ in pictures}) == 1
    assert len({picture.tobytes() for picture, _ in pictures[1:]}) > 2


@of(*TASKS)
def test_compare_shows_first_the_image_as_the_model_sees_it(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    color = (250, 120, 10)
    height, width = quarter(predictor)
    picture, caption = compare(predictor, Image.new('RGB', (200, 200), color), (height, width))[0]
    assert caption == f'The image at {height} × {width} px'
    assert picture.crop((0, 0, 200, 200)).getcolors() == [(200 * 200, color)]


@of('segmentation')
def test_compare_shows_mspe_of_tuned_models_only(task):
    for count, files in ((5, ['stock.pth']), (6, ['stock.pth', 'adapter.safetensors']), (6, ['merged.pth'])):
        predictor = mspe_mm.load('mspe.py', *files, device='cpu')
        layer = predictor.model.mspe_layer
        assert len(compare(predictor, Image.open(task.images[0]), (32, 32))) == count
        assert predictor.model.mspe_layer is layer    # as it was


@of('segmentation')
def test_compare_says_where_the_stock_model_cannot_run(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    block, tokens = predictor.model.backbone.layers[0], []

    def refuse_other_grids(module, inputs):
        tokens.append(inputs[0].shape[1])
        if tokens[-1] != max(tokens):
            raise RuntimeError('another grid')
    block.register_forward_pre_hook(refuse_other_grids)
    image = Image.open(task.images[0]).convert('RGB')
    assert CANNOT_RUN not in [caption for _, caption in compare(predictor, image, (128, 128))]
    pictures = compare(predictor, image, (32, 32))
    assert pictures[1][1] == CANNOT_RUN
    assert pictures[1][0].crop((0, 0, 256, 256)) == image.resize((256, 256), Image.NEAREST)
    assert all(caption.endswith(' ms') for _, caption in pictures[2:])


@of('segmentation')
def test_compare_raises_errors_that_the_size_does_not_explain(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')

    def fail(module, inputs):
        raise RuntimeError('broken')
    predictor.model.backbone.layers[0].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='broken'):
        compare(predictor, Image.open(task.images[0]), (128, 128))


@of('segmentation')
def test_compare_shrinks_photographs_and_takes_any_mode(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    pictures = compare(predictor, Image.new('RGBA', (3000, 1500)), (32, 32))
    assert all(picture.height == 512 for picture, _ in pictures[1:])


@of('segmentation')
def test_app_without_gradio_says_what_to_install(task, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert "pip install 'mspe_mm[app]'" in task.world.fails('app.py', 'mspe.py', 'stock.pth', '--device', 'cpu')
