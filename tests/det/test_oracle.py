"""Ground truth through mmdet's own pipeline, coding, decoding and rescaling, at every resolution.

The detectors are whole; only what their heads would have to learn is replaced by the answer: offsets from proposals or
anchors to the annotation, in the reference frame. What comes out must be the annotation, in the original image.
"""
import cv2
import numpy as np
import pytest
import torch
from det_helpers import mask_rcnn, retinanet
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

BASE = 1024
SIZES = dict(landscape=(427, 640), portrait=(640, 425), large=(1080, 1920), panorama=(211, 1500))
RESOLUTIONS = [1024, 512, 256, 128, 768, 300, 1500]
BOXES = np.array([[0.05, 0.10, 0.40, 0.60], [0.50, 0.02, 0.97, 0.45], [0.62, 0.55, 0.80, 0.98], [0.20, 0.70, 1.00, 1.00]])
LABELS = [0, 2, 1, 0]


def detector(factory):
    """Base resolution 1024; its blocks attend in windows only, to be quick."""
    cfg = factory(img_size=BASE, backbone=dict(embed_dim=16, depth=1, window_size=8))
    return MODELS.build(cfg).eval()


def annotation(size):
    return BOXES * [size[1], size[0], size[1], size[0]]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for name, (height, width) in SIZES.items():
        cv2.imwrite(str(folder / f'{name}.jpg'), np.full((height, width, 3), 90, np.uint8))
    return folder


def load(files, names, resolution):
    """What the test pipeline gives for a batch of images, and the annotations in the reference frame."""
    pipeline = Compose([TRANSFORMS.build(dict(step)) for step in (
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(resolution, resolution), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')))])
    data = [pipeline(dict(
        img_path=str(files / f'{name}.jpg'), img_id=name,
        instances=[dict(bbox=list(box), bbox_label=label, ignore_flag=0)
                   for box, label in zip(annotation(SIZES[name]), LABELS)])) for name in names]
    # By hand: a canvas of 64 tokens, each of a whole number of pixels, becomes 64 tokens of 16 px.
    factor = 16 / -(-resolution // 64)
    frames = [item['data_samples'].gt_instances.bboxes.tensor * factor for item in data]
    return dict(inputs=[i['inputs'] for i in data], data_samples=[i['data_samples'] for i in data]), frames


def oracle_mask_rcnn(frames):
    """Proposals beside the objects; a box head that gives the offsets to them; a mask head that draws ellipses."""
    model = detector(mask_rcnn)
    generator = torch.Generator().manual_seed(0)
    proposals = [boxes + torch.empty_like(boxes).uniform_(-9, 9, generator=generator) for boxes in frames]
    model.rpn_head.predict = lambda *args, **kwargs: [
        InstanceData(bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.zeros(len(boxes), dtype=torch.long))
        for boxes in proposals]

    def box_head(features):
        assert features.shape == (4 * len(frames), 8, 7, 7)
        logits = torch.zeros(len(features), 4)
        for i in range(len(features)):
            logits[i, LABELS[i % 4]] = 9 - i % 4    # in the order of the annotations
        offsets = model.roi_head.bbox_head.bbox_coder.encode(torch.cat(proposals), torch.cat(frames))
        return logits, offsets.repeat(1, 3)

    def mask_head(features):
        grid = (torch.arange(28) + 0.5) / 14 - 1
        return (9 * (1 - grid[:, None]**2 - grid[None, :]**2)).expand(len(features), 3, 28, 28)

    model.roi_head.bbox_head.forward = box_head
    model.roi_head.mask_head.forward = mask_head
    model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr = 0.5
    return model


def oracle_retinanet(frames):
    """The anchor that overlaps an object most gives its class and the offsets to it."""
    model = detector(retinanet)
    head = model.bbox_head

    def forward(features):
        sizes = [tuple(level.shape[-2:]) for level in features]
        assert sizes == [(BASE // stride, ) * 2 for stride in (4, 8, 16, 32, 64)]
        anchors = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu'))
        scores, offsets = torch.full((len(frames), len(anchors), 3), -9.), torch.zeros(len(frames), len(anchors), 4)
        for image, boxes in enumerate(frames):
            best = bbox_overlaps(boxes, anchors).argmax(1)
            scores[image, best, torch.tensor(LABELS)] = 9 - torch.arange(4.)
            offsets[image, best] = head.bbox_coder.encode(anchors[best], boxes)
        counts = [h * w * 6 for h, w in sizes]
        return tuple([part.view(len(frames), h, w, -1).permute(0, 3, 1, 2) for part, (h, w) in zip(
            values.split(counts, dim=1), sizes)] for values in (scores, offsets))

    head.forward = forward
    model.test_cfg.score_thr = head.test_cfg.score_thr = 0.5
    return model


@pytest.mark.parametrize(('oracle', 'resolution'), [(oracle_mask_rcnn, resolution) for resolution in RESOLUTIONS] + [
    (oracle_retinanet, 512), (oracle_retinanet, 128)])
@torch.no_grad()
def test_annotations_come_back(oracle, resolution, files):
    names = list(SIZES)
    data, frames = load(files, names, resolution)
    results = oracle(frames).test_step(data)
    for name, result in zip(names, results):
        found, expected = result.pred_instances, torch.tensor(annotation(SIZES[name]), dtype=torch.float32)
        assert found.labels.tolist() == LABELS
        assert (found.bboxes - expected).abs().max() < 0.5
        if 'masks' in found:
            check_ellipses(found.masks, expected, SIZES[name])


def check_ellipses(masks, boxes, size):
    assert masks.shape == (len(boxes), *size)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing='ij')
    for mask, (left, top, right, bottom) in zip(masks, boxes):
        u, v = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
        ellipse = u**2 + v**2 < 1
        assert (mask & ellipse).sum() / (mask | ellipse).sum() > 0.95
        for axis in (0, 1):    # the centre of gravity is where it was
            index = torch.arange(size[axis]) + 0.5
            centre = (mask.sum(1 - axis) * index).sum() / mask.sum()
            assert abs(centre - ((top + bottom) / 2 if axis == 0 else (left + right) / 2)) < 0.5


@pytest.mark.parametrize('resolution', [1024, 128])
def test_the_oracle_notices_a_frame_that_is_off(resolution, files):
    """Against tests that cannot fail: 1% in the scale, and the boxes are elsewhere."""
    data, frames = load(files, ['landscape'], resolution)
    model = oracle_mask_rcnn([boxes * 1.01 for boxes in frames])
    with torch.no_grad():
        found = model.test_step(data)[0].pred_instances
    assert (found.bboxes - torch.tensor(annotation(SIZES['landscape']))).abs().max() > 0.5
