"""The hosts' own inferencers, on shipped recipes and images that are small, against the sweep over resolutions."""
from __future__ import annotations

import contextlib
import io
import json
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.evaluation import IoUMetric
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tools_helpers import forget_shared

from mspe_mm.data.change_resolution import imresize
from mspe_mm.errors import InputError
from mspe_mm.evaluation.sweep import evaluate
from mspe_mm.runtime.runner import MSPERunner


@pytest.fixture(autouse=True)
def _in_world(request):
    """The hosts read the paths of a config from the working folder."""
    task = next(request.getfixturevalue(name) for name in ('segmentation', 'detection') if name in request.fixturenames)
    before = os.getcwd()
    os.chdir(task.folder)
    forget_shared()
    yield
    os.chdir(before)


def swept(resolution, *options):
    """The row of the sweep, of the model with its adapter."""
    cfg = Config.fromfile('mspe.py')
    cfg.load_from, cfg.strict_load, cfg.work_dir, cfg.adapter = 'stock.pth', True, 'work', 'adapter.safetensors'
    cfg.merge_from_dict(dict(options))
    runner = MSPERunner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    row = evaluate(runner, 'mspe', resolution)
    forget_shared()
    return row['metrics']


def with_adapter(**options):
    """A config file that names the adapter."""
    lines = [f'model = dict(adapter="adapter.safetensors", **{options!r})']
    with open('own.py', 'w') as file:
        file.write('_base_ = "mspe.py"\n' + '\n'.join(lines) + '\n')
    return 'own.py'


def shrunk(images, share, folder):
    """Files of the images, shrunk as the sweep shrinks them."""
    paths = []
    for path in images:
        image = np.asarray(Image.open(path).convert('RGB'))
        size = tuple(round(length * share) for length in image.shape[:2])
        paths.append(str(folder / path.name))
        Image.fromarray(imresize(image, size)).save(paths[-1])
    return paths


def miou(samples, images):
    """mIoU of logits that are brought to the size of the images that were shrunk, as the model itself does."""
    results = []
    for sample, path in zip(samples, images):
        truth = torch.from_numpy(np.array(Image.open(str(path).replace('images', 'annotations'))))
        logits = F.interpolate(sample.seg_logits.data[None], tuple(truth.shape), mode='bilinear', align_corners=False)
        results.append(IoUMetric.intersect_and_union(logits.argmax(1)[0], truth, len(logits[0]), 255))
    intersect, union = (sum(parts) for parts in list(zip(*results))[:2])
    return float(np.nanmean((intersect / union).numpy()) * 100)


WAYS = {'a merged checkpoint': lambda **options: (with_plain(**options), 'merged.pth'),
        'an adapter in the config': lambda **options: (with_adapter(**options), 'stock.pth')}


def with_plain(**options):
    with open('plain.py', 'w') as file:
        file.write(f'_base_ = "mspe.py"\nmodel = dict(**{options!r})\n')
    return 'plain.py'


@pytest.mark.parametrize('way', WAYS)
def test_mmseg_inferencer_on_shrunk_images_has_the_metric_of_the_sweep(segmentation, tmp_path, way):
    config, checkpoint = WAYS[way]()
    inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
    samples = inferencer(shrunk(segmentation.images, 0.25, tmp_path), return_datasamples=True)
    assert samples[0].pred_sem_seg.data.shape == (1, 32, 32)
    expected = swept((32, 32))['mIoU']
    assert expected > 0
    assert miou(samples, segmentation.images) == pytest.approx(expected, abs=0.1)


def test_inference_model_has_the_metric_of_the_sweep_with_sliding_windows(segmentation, tmp_path):
    """Windows are a half of the image at every resolution, as they are at the base resolution."""
    slide = dict(test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(64, 32), scale=(128, 128)))
    model = init_model(with_adapter(**slide), 'stock.pth', device='cpu')
    samples = inference_model(model, shrunk(segmentation.images, 0.5, tmp_path))
    expected = swept((64, 64), *{f'model.{key}': value for key, value in slide.items()}.items())['mIoU']
    assert expected > 0
    assert miou(samples, segmentation.images) == pytest.approx(expected, abs=0.1)


def test_inference_model_takes_images_of_different_sizes_in_one_call(segmentation, tmp_path):
    model = init_model(with_adapter(), 'stock.pth', device='cpu')
    (tmp_path / 'small').mkdir()
    small = shrunk(segmentation.images[:2], 0.25, tmp_path / 'small')
    paths = [str(segmentation.images[0]), small[0], small[1], str(segmentation.images[2])]
    together = inference_model(model, paths)
    for path, sample in zip(paths, together):
        alone = inference_model(model, path)
        torch.testing.assert_close(sample.seg_logits.data, alone.seg_logits.data, rtol=1e-4, atol=1e-4)


def box_ap(found, images):
    """AP of predictions [(boxes, scores, labels)], in the coordinates of ``images``."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO('data/instances.json')
        results = [dict(image_id=index + 1, category_id=int(label) + 1, score=float(score),
                        bbox=[float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])])
                   for index, prediction in enumerate(found) for box, score, label in zip(*prediction)]
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        for step in ('evaluate', 'accumulate', 'summarize'):
            getattr(evaluation, step)()
    return evaluation.stats[0] * 100


def findable(task):
    """Annotations that the untrained model finds, so that its AP is no zero: what it detects at the base resolution."""
    model = init_detector(with_plain(), 'merged.pth', device='cpu')
    truth = json.loads((task.folder / 'data/instances.json').read_text())
    annotations = []
    for index, path in enumerate(task.images):
        found = inference_detector(model, str(path)).pred_instances
        for box, label in list(zip(found.bboxes.tolist(), found.labels.tolist()))[:4]:
            x, y, right, bottom = box
            annotations.append(dict(id=len(annotations) + 1, image_id=index + 1, category_id=label + 1, iscrowd=0,
                                    bbox=[x, y, right - x, bottom - y], area=(right - x) * (bottom - y),
                                    segmentation=[[x, y, right, y, right, bottom, x, bottom]]))
    (task.folder / 'data/instances.json').write_text(json.dumps({**truth, 'annotations': annotations}))


@pytest.mark.parametrize('way', WAYS)
def test_det_inferencer_on_shrunk_images_has_the_metric_of_the_sweep(detection, tmp_path, way):
    findable(detection)
    config, checkpoint = WAYS[way]()
    inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
    found = [(np.array(one['bboxes']) * 2, one['scores'], one['labels']) for one in inferencer(
        shrunk(detection.images, 0.5, tmp_path), no_save_vis=True)['predictions']]
    expected = swept((128, 128))['box AP']
    assert expected > 0
    assert box_ap(found, detection.images) == pytest.approx(expected, abs=0.1)


def test_det_inferencer_in_a_batch_predicts_each_image_at_its_own_size(detection, tmp_path):
    (tmp_path / 'small').mkdir()
    paths = [*map(str, detection.images), *shrunk(detection.images, 0.25, tmp_path / 'small')]
    inferencer = DetInferencer(with_adapter(), 'stock.pth', device='cpu', show_progress=False)
    model = init_detector(with_adapter(), 'stock.pth', device='cpu')
    for sample, path in zip(inferencer(paths, batch_size=len(paths), return_datasamples=True,
                                       no_save_vis=True)['predictions'], paths):
        alone = inference_detector(model, path).pred_instances
        np.testing.assert_allclose(sample.pred_instances.bboxes, alone.bboxes, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(sample.pred_instances.scores, alone.scores, rtol=1e-3, atol=1e-4)


def test_an_adapter_of_the_config_that_does_not_fit_the_checkpoint_is_refused(segmentation):
    weights = torch.load('stock.pth', weights_only=False)
    weights['state_dict']['backbone.patch_embed.projection.weight'] += 0.1
    torch.save(weights, 'other.pth')
    model = init_model(with_adapter(), 'other.pth', device='cpu')
    with pytest.raises(InputError, match=r'model.adapter=adapter.safetensors is not loaded.*load the checkpoint'):
        inference_model(model, str(segmentation.images[0]))
