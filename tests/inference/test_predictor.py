"""mspe_mm.load: stock models predict at any size, images of different sizes share a pass, threads share a predictor."""
from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from helpers import in_threads
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from PIL import Image

import mspe_mm
from mspe_mm.data.change_resolution import imresize
from mspe_mm.errors import InputError
from mspe_mm.models.find import patch_embed_name

TASKS = ('segmentation', 'detection', 'classification')


def of(*names):
    return pytest.mark.parametrize('task', names, indirect=True)


def mixed(task):
    """Images of several sizes, BGR."""
    images = [cv2.imread(str(path)) for path in task.images[:3]]
    sizes = [image.shape[:2] for image in images]
    return [*images, *(imresize(image, tuple(length // share for length in size))
                       for image, size in zip(images, sizes) for share in (2, 4))]


def result(sample):
    """What was predicted, as one array."""
    if 'pred_sem_seg' in sample:
        return sample.seg_logits.data.numpy()
    if 'pred_instances' in sample:
        return torch.cat([sample.pred_instances.bboxes, sample.pred_instances.scores[:, None]], 1).numpy()
    return sample.pred_score.numpy()


def encoder_passes(predictor):
    """Shapes of what leaves the first block, a list that grows."""
    backbone, seen = predictor.model.backbone, []
    blocks = backbone.layers if hasattr(backbone, 'layers') else backbone.blocks
    blocks[0].register_forward_hook(lambda module, inputs, out: seen.append(tuple(out.shape)))
    return seen


@of(*TASKS)
def test_load_gives_a_stock_model_the_prior(task):
    """The config and the checkpoint of a stock model: at a quarter of the resolution the predictions are the prior's."""
    stock, ours = mspe_mm.load('stock.py', 'stock.pth', device='cpu'), mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    layer = ours.model.mspe_layer
    prior = layer.single_kernel(layer.kernel_policy, correlation=0.99, context=3)
    ours.model.set_submodule(patch_embed_name(ours.model), prior)
    assert not stock.model.mspe_layer.is_tuned()
    for image in mixed(task)[::3]:
        np.testing.assert_allclose(result(stock(image)[0]), result(ours(image)[0]), rtol=1e-3, atol=1e-3)


@of('segmentation')
def test_a_stock_segmentor_is_unchanged_at_the_base_resolution(task):
    expected = inference_model(init_model('stock.py', 'stock.pth', device='cpu'), str(task.images[0]))
    (found, ) = mspe_mm.load('stock.py', 'stock.pth', device='cpu')(task.images[0])
    torch.testing.assert_close(found.seg_logits.data, expected.seg_logits.data, rtol=1e-4, atol=1e-4)


@of('detection')
def test_a_stock_detector_is_unchanged_at_the_base_resolution(task):
    expected = inference_detector(init_detector('stock.py', 'stock.pth', device='cpu'), str(task.images[2])).pred_instances
    (found, ) = mspe_mm.load('stock.py', 'stock.pth', device='cpu')(task.images[2])
    torch.testing.assert_close(found.pred_instances.bboxes, expected.bboxes, rtol=1e-4, atol=1e-2)
    assert len(expected) > 0


@of(*TASKS)
def test_images_of_different_sizes_share_one_pass_and_are_predicted_as_alone(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', 'adapter.safetensors', device='cpu')
    images, seen = mixed(task), encoder_passes(predictor)
    together = predictor(images)
    assert len(seen) == 1
    assert seen[0][0] == len(images)
    for image, sample in zip(images, together):
        np.testing.assert_allclose(result(sample), result(predictor(image)[0]), rtol=1e-3, atol=1e-3)


@of(*TASKS)
def test_a_predictor_takes_paths_arrays_and_pil_images(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    path = task.images[0]
    samples = predictor([str(path), path, cv2.imread(str(path)), Image.open(path)])
    for sample in samples[1:]:
        np.testing.assert_allclose(result(sample), result(samples[0]), rtol=1e-4, atol=1e-4)


@of(*TASKS)
def test_a_predictor_may_be_called_by_several_threads(task):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', 'adapter.safetensors', device='cpu')
    images = mixed(task)
    expected = [result(predictor(image)[0]) for image in images]
    found = in_threads(lambda index: result(predictor(images[index])[0]), [*range(len(images))] * 2)
    for index, array in enumerate(found):
        np.testing.assert_allclose(array, expected[index % len(images)], rtol=1e-4, atol=1e-4)


@of('segmentation', 'detection')
def test_predictors_of_two_hosts_serve_one_process(task, classification):
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    expected = result(predictor(task.images[0])[0])
    other = mspe_mm.load(classification.folder / 'mspe.py', classification.folder / 'stock.pth', device='cpu')
    other(classification.images[0])
    assert np.array_equal(result(predictor(task.images[0])[0]), expected)


@of('segmentation')
def test_load_takes_the_adapter_that_the_config_names_unless_it_is_given_another(task):
    named = Config.fromfile('mspe.py')
    named.model.adapter = 'adapter.safetensors'
    by_name, by_argument, none = (mspe_mm.load(cfg, 'stock.pth', adapter, 'cpu') for cfg, adapter in (
        (named, None), ('mspe.py', 'adapter.safetensors'), ('mspe.py', None)))
    small = mixed(task)[-1]
    assert np.array_equal(result(by_name(small)[0]), result(by_argument(small)[0]))
    assert not np.array_equal(result(by_name(small)[0]), result(none(small)[0]))


@of('segmentation')
def test_classes_and_palette_are_the_checkpoints_or_the_data_sets(task):
    weights = torch.load('stock.pth', weights_only=False)
    torch.save(weights['state_dict'], 'bare.pth')
    for checkpoint in ('stock.pth', 'bare.pth'):
        predictor = mspe_mm.load('mspe.py', checkpoint, device='cpu')
        assert predictor.classes[0] == 'sand'
        assert list(predictor.palette[0]) == [200, 180, 120]


@of('segmentation')
def test_load_and_predict_refuse_bad_input_in_one_sentence(task):
    with pytest.raises(InputError, match=r'config none\.py does not exist'):
        mspe_mm.load('none.py', 'stock.pth')
    with pytest.raises(InputError, match='no trained weights of its own: give a checkpoint'):
        mspe_mm.load('mspe.py')
    with pytest.raises(InputError, match=r'adapter none\.safetensors does not exist'):
        mspe_mm.load('mspe.py', 'stock.pth', 'none.safetensors')
    predictor = mspe_mm.load('mspe.py', 'stock.pth', device='cpu')
    with pytest.raises(InputError, match=r'none.png does not exist'):
        predictor('none.png')
    (task.folder / 'torn.png').write_bytes(task.images[0].read_bytes()[:100])
    with pytest.raises(InputError, match=r'torn.png cannot be decoded'):
        predictor('torn.png')
    with pytest.raises(InputError, match=r'\(H, W, 3\) bytes in BGR order, got \(4, 4\)'):
        predictor(np.zeros((4, 4), np.uint8))
    assert predictor([]) == []
