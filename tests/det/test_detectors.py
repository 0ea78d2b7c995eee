"""Detectors at other resolutions than their base."""
import copy
from importlib import import_module

import pytest
import torch
from det_helpers import PlainPatchEmbed, build, cascade_mask_rcnn, fcos, lively, mask_rcnn, retinanet, stock, tiny_backbone
from helpers import SummedLosses, relative_error, saved_bytes
from mmdet.models.detectors import RetinaNet
from mmdet.models.roi_heads.mask_heads import fcn_mask_head
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.testing import demo_mm_inputs
from mmengine.structures import InstanceData
from mmengine.utils import digit_version

from mspe_mm import InputError
from mspe_mm.core import resize_image
from mspe_mm.det import MultiResolutionDetectorMixin

# PyTorch 2.1 has no float16 autocast on the CPU.
AUTOCAST_DTYPES = [torch.bfloat16, *([torch.float16] if digit_version(torch.__version__) >= digit_version('2.2') else [])]
DETECTORS = dict(mask_rcnn=mask_rcnn, cascade=cascade_mask_rcnn, retinanet=retinanet, fcos=fcos)
detectors = pytest.mark.parametrize('detector', DETECTORS)


def batch(images, **metainfo):
    """Input of test_step: images (B, 3, H, W) and the metadata of each."""
    samples = [DetDataSample(metainfo={'img_id': i, **{key: value[i] for key, value in metainfo.items()}})
               for i in range(len(images))]
    return dict(inputs=list(images), data_samples=samples)


def upsampled_by_patches(images, patch, new_patch):
    """Resize every patch by itself, as PI-resize assumes: images (B, C, H, W) whose patches become ``new_patch`` px."""
    b, c, h, w = images.shape
    cut = images.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 1, 3, 5)
    grown = resize_image(cut.flatten(0, 2), new_patch).view(*cut.shape[:4], *new_patch)
    return grown.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h // patch * new_patch[0], w // patch * new_patch[1])


class TestExactContent:
    """A reference image of 256 px, and the same content with more pixels for every patch, where PI-resize is exact."""

    ori_shape = [(400, 480), (640, 427)]    # landscape and portrait
    img_shape = [(213, 256), (256, 171)]

    def metainfo(self, vertical=1, horizontal=1):
        return dict(
            ori_shape=self.ori_shape,
            img_shape=[(h * vertical, w * horizontal) for h, w in self.img_shape],
            scale_factor=[(w * horizontal / ori_w, h * vertical / ori_h)
                          for (h, w), (ori_h, ori_w) in zip(self.img_shape, self.ori_shape)])

    @detectors
    @pytest.mark.parametrize(('vertical', 'horizontal'), [(2, 2), (1, 3)])
    @torch.no_grad()
    def test_same_detections(self, detector, vertical, horizontal, monkeypatch):
        """In float64, but for two functions of the hosts that take float32 alone: NMS, and what pastes masks."""
        for module, name in ((import_module('mmcv.ops.nms').ext_module, 'nms'), (fcn_mask_head, '_do_paste_mask')):
            function = getattr(module, name)
            monkeypatch.setattr(module, name, lambda boxes, other, *args, function=function, **kwargs: function(
                boxes.float(), other.float(), *args, **kwargs))
        cfg = DETECTORS[detector](img_size=256)
        if vertical != horizontal:    # whose canvas would be square
            cfg['data_preprocessor'] = dict(type='DetDataPreprocessor', mean=[127.] * 3, std=[60.] * 3)
        torch.manual_seed(2)    # random heads may clip a box to nothing at the edge of the image; these do not
        model = build(cfg).double()
        # Multiples of 3, so that those between are whole 16ths: mm's preprocessor casts images to float32.
        images = (torch.rand(2, 3, 256, 256) * 85).round().double() * 3
        larger = upsampled_by_patches(images, 16, (16 * vertical, 16 * horizontal))
        assert larger.shape == (2, 3, 256 * vertical, 256 * horizontal)
        reference = model.test_step(batch(images, **self.metainfo()))
        results = model.test_step(batch(larger, **self.metainfo(vertical, horizontal)))
        for result, expected, (height, width) in zip(results, reference, self.ori_shape):
            assert result.img_shape != expected.img_shape
            result, expected = result.pred_instances, expected.pred_instances
            assert len(expected) == 10
            assert torch.equal(result.labels, expected.labels)
            torch.testing.assert_close(result.scores, expected.scores, rtol=0, atol=1e-10)
            torch.testing.assert_close(result.bboxes, expected.bboxes, rtol=0, atol=1e-9)
            assert (expected.bboxes[:, 2:] - expected.bboxes[:, :2]).min() > 1
            assert expected.bboxes.max() > 256    # in the original image, not in the frame
            if 'masks' in expected:
                assert result.masks.shape == expected.masks.shape == (10, height, width)
                assert expected.masks.any()
                assert (result.masks != expected.masks).float().mean() < 1e-5

    @torch.no_grad()
    def test_metadata_and_tensor_mode(self):
        model = build(mask_rcnn(img_size=256))
        images = torch.rand(1, 3, 256, 256)
        data = batch(upsampled_by_patches(images, 16, (32, 32)), **self.metainfo(2, 2))
        before = copy.deepcopy(data['data_samples'][0].metainfo)
        result = model.test_step(data)[0]
        assert {key: result.metainfo[key] for key in before} == before
        assert result.batch_input_shape == (512, 512)
        inputs = model.data_preprocessor(data)
        reference = model(**model.data_preprocessor(batch(images, **self.metainfo())), mode='tensor')
        tensors = model(**inputs, mode='tensor')
        for ours, expected in zip(tensors[0], reference[0]):
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def demo(model, shapes=((3, 64, 50), (3, 40, 64)), training=True):
    data = demo_mm_inputs(2, image_shapes=list(shapes), num_items=[2, 3], with_mask=True, num_classes=3)
    return model.data_preprocessor(data, training)


def seeded(function):
    torch.manual_seed(0)
    return function()


@detectors
def test_base_resolution_is_bit_exact(detector):
    """Losses and detections of mmdet's own detector with a plain patch embedding."""
    cfg = DETECTORS[detector]()
    model, host = build(cfg), MODELS.build(stock(cfg))
    host.load_state_dict(model.state_dict())
    host.backbone.patch_embed = PlainPatchEmbed(host.backbone.patch_embed.proj)
    assert type(host).__module__.startswith('mmdet.')
    for ours, theirs in zip(*(seeded(lambda m=m: m.eval().test_step(demo(m, training=False))) for m in (model, host))):
        for key in ('bboxes', 'scores', 'labels', 'masks'):
            if key in theirs.pred_instances:
                assert torch.equal(ours.pred_instances[key], theirs.pred_instances[key])
        assert len(theirs.pred_instances)
    ours, theirs = (seeded(lambda m=m: m.parse_losses(m.train()(**demo(m), mode='loss'))[1]) for m in (model, host))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@detectors
def test_tuning_moves_theta_only(detector):
    model = lively(MODELS.build(DETECTORS[detector](tuning=dict(), backbone=dict(drop_path_rate=0.5)))).train()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        losses = model(**demo(model), mode='loss')
        total, log = model.parse_losses(losses)
        total.backward()
        optimizer.step()
        assert torch.isfinite(total)
        assert {name.partition('.')[0] for name in losses} == {'k4', 'k8', 'k12'}
        assert total.item() == pytest.approx(sum(v.item() for k, v in log.items() if 'loss' in k and k != 'loss'), rel=1e-5)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f'backbone.patch_embed.kernels.{k}.{name}' for k in (4, 8, 12) for name in ('weight', 'bias')}
    assert {id(p) for p in model.parameters() if p.requires_grad} == {
        id(p) for p in model.backbone.patch_embed.kernels.parameters()}


@detectors
@pytest.mark.parametrize(('tuning', 'with_cp'), [('task', False), ('task', True), ('distill', False), ('both', True)])
def test_the_gradient_is_that_of_the_plain_losses_in_the_memory_of_one_pass(detector, tuning, with_cp):
    model = lively(MODELS.build(DETECTORS[detector](
        tuning=dict(objective=tuning, sampling='native'), backbone=dict(tune_base=True, with_cp=with_cp)))).train()
    for k, kernel in model.backbone.patch_embed.kernels.items():    # a distance at its minimum has no gradient
        kernel.weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(int(k)))
    model.backbone.register_forward_pre_hook(lambda *_: torch.manual_seed(0) and None)    # proposals are sampled alike
    theta, results, peaks = list(model.backbone.patch_embed.kernels.parameters()), [], []
    for objective in (model.tuning, SummedLosses(tuning)):
        model.tuning = objective
        with saved_bytes(model) as count:
            loss, _ = model.parse_losses(seeded(lambda: model(**demo(model), mode='loss')))
        results.append([loss, *torch.autograd.grad(loss, theta)])
        peaks.append(count.peak)
        assert all(parameter.grad is None for parameter in model.parameters())
    for actual, expected in zip(*results):
        assert relative_error(actual, expected) < 1e-5
    # Of five passes; without the heads the largest is more than a fifth, for its images are four times the base's.
    assert peaks[0] < peaks[1] / (3 if tuning == 'distill' else 4)


@detectors
def test_both_objectives_are_the_hosts_losses_and_the_distance_in_one_forward_pass(detector):
    state, found, passes = build(DETECTORS[detector]()).state_dict(), {}, {}
    for objective in ('task', 'distill', 'both'):
        model, seen = MODELS.build(DETECTORS[detector](tuning=dict(objective=objective))).train(), []
        model.load_state_dict(state)
        model.backbone.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        found[objective] = seeded(lambda model=model: model(**demo(model), mode='loss'))
        passes[objective] = len(seen)
    assert passes == dict(task=3, distill=4, both=4)
    assert list(found['distill']) == [f'{name}.loss_distill' for name in ('k4', 'k8', 'k12')]
    assert found['both'].keys() == found['task'].keys() | found['distill'].keys()
    first = 'k4.loss_distill'    # then a two-stage detector draws its samples, and other resolutions are drawn
    for name, value in {**found['task'], first: found['distill'][first]}.items():
        torch.testing.assert_close(found['both'][name], value)


@detectors
def test_the_distance_is_between_the_features_that_the_heads_see(detector):
    model = lively(MODELS.build(DETECTORS[detector](tuning=dict(objective='distill')))).train()
    data, levels = demo(model), []
    model.neck.register_forward_hook(lambda _, __, out: levels.append(out))
    losses = seeded(lambda: model(**data, mode='loss'))
    teacher, *students = levels
    assert len(teacher) == 5
    for value, student in zip(losses.values(), students):
        expected = [((s - t).norm() / t.norm())**2 for s, t in zip(student, teacher)]
        torch.testing.assert_close(value, torch.stack(expected).mean())


def test_without_annotations_there_is_a_distance_alone():
    for objective in ('distill', 'task', 'both'):
        model = MODELS.build(mask_rcnn(tuning=dict(objective=objective))).train()
        data = demo(model)
        for sample in data['data_samples']:
            sample.gt_instances = InstanceData()
        if objective == 'distill':
            assert list(model(**data, mode='loss')) == [f'k{k}.loss_distill' for k in (4, 8, 12)]
        else:
            with pytest.raises(InputError, match=r"no annotations.*set tuning.objective='distill'"):
                model(**data, mode='loss')


@detectors
@pytest.mark.parametrize('dtype', AUTOCAST_DTYPES)
def test_losses_are_finite_under_autocast(detector, dtype):
    model = MODELS.build(DETECTORS[detector](tuning=dict())).train()
    dtypes = {}
    head = next(model.bbox_head.modules() if detector in ('retinanet', 'fcos') else model.rpn_head.modules())
    for name, module in (('blocks', model.backbone.blocks[0].mlp.fc1), ('neck', model.neck.fpn2), ('head', head)):
        module.register_forward_hook(lambda _, __, out, name=name: dtypes.update(
            {name: (out if torch.is_tensor(out) else out[0][0]).dtype}))
    for _ in range(2):    # the first step in float16 is at GradScaler's default scale, too high for these losses
        model.zero_grad()
        with torch.autocast('cpu', dtype):
            total, log = model.parse_losses(model(**demo(model), mode='loss'))
        total.backward()
    assert dtypes == dict(blocks=dtype, neck=dtype, head=torch.float32)
    assert all(torch.isfinite(value).all() for value in log.values())
    assert len(log) > 6
    for parameter in model.backbone.patch_embed.kernels.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.any()


@pytest.mark.parametrize('norm_on_bbox', [True, False])
def test_tuning_loss_of_the_base_kernel_is_the_training_loss(monkeypatch, norm_on_bbox):
    """A head in eval mode predicts boxes in other units than its loss is in, if it normalises them by the stride."""
    cfg = fcos(norm_on_bbox)
    model = build(cfg)
    tuned = MODELS.build({**cfg, 'tuning': dict()})
    tuned.load_state_dict(model.state_dict())
    data = demo(model)
    expected = model.train()(**data, mode='loss')
    tuned.train()
    monkeypatch.setattr(type(tuned.tuning), '__call__', lambda self, layer, images, task_loss, model=None: task_loss(images))
    losses = tuned(**data, mode='loss')
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name])


def test_no_statistics_and_no_drop_path_while_tuning():
    model = MODELS.build(fcos(tuning=dict(), backbone=dict(drop_path_rate=0.9), neck=dict(
        type='MSPESimpleFPN', backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8, num_outs=5,
        norm_cfg=dict(type='BN')))).train()
    assert model.training
    assert model.backbone.patch_embed.training
    for name, module in model.named_modules():
        if isinstance(module, (torch.nn.modules.batchnorm._BatchNorm, torch.nn.GroupNorm)) or 'drop' in name:
            assert not module.training, name
    first, second = (seeded(lambda: model.parse_losses(model(**demo(model), mode='loss'))[0]) for _ in range(2))
    assert torch.equal(first, second)
    model.eval()
    assert not any(module.training for module in model.modules())


def test_images_without_objects():
    for detector in DETECTORS.values():
        model = MODELS.build(detector(tuning=dict())).train()
        data = demo(model)
        for sample in data['data_samples']:
            sample.gt_instances = InstanceData(
                bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long), masks=BitmapMasks([], 64, 64))
        total, _ = model.parse_losses(model(**data, mode='loss'))
        total.backward()
        assert torch.isfinite(total)


def test_training_images_must_be_at_the_base_resolution():
    model = MODELS.build(mask_rcnn(tuning=dict())).train()
    with pytest.raises(InputError, match='batch is 92 x 92 px, and training is at the base resolution of 64 x 64'):
        model(**demo(model, shapes=[(3, 90, 80), (3, 64, 64)]), mode='loss')


def test_another_host_detector_composes():
    class Composed(MultiResolutionDetectorMixin, RetinaNet):
        pass

    cfg = retinanet()
    del cfg['type']
    model = Composed(**cfg).eval()
    result = model.test_step(batch(torch.rand(1, 3, 20, 30), ori_shape=[(20, 30)], img_shape=[(20, 30)]))[0]
    assert len(result.pred_instances) == 10
    assert result.pred_instances.bboxes[:, 2].max() <= 30
    assert result.pred_instances.bboxes[:, 3].max() <= 20


@torch.no_grad()
def test_mixed_sizes_in_one_batch_are_as_if_alone():
    """Two images that need the same canvas by themselves see nothing of each other in a batch."""
    model = build(mask_rcnn())
    sizes = [(30, 20), (11, 32)]
    images = [torch.rand(3, *size) * 255 for size in sizes]
    meta = [dict(ori_shape=[(3 * h, 2 * w)], img_shape=[(h, w)], scale_factor=[(1 / 2, 1 / 3)]) for h, w in sizes]
    together = model.test_step(batch(images, **{key: [m[key][0] for m in meta] for key in meta[0]}))
    for image, m, result in zip(images, meta, together):
        (alone, ) = model.test_step(batch([image], **m))
        torch.testing.assert_close(result.pred_instances.bboxes, alone.pred_instances.bboxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(result.pred_instances.scores, alone.pred_instances.scores, rtol=0, atol=1e-5)
        assert result.pred_instances.masks.shape[1:] == m['ori_shape'][0]
        assert alone.pred_instances.bboxes[:, 2].max() <= m['ori_shape'][0][1]


def test_backbone_without_the_layer():
    cfg = mask_rcnn()
    cfg['backbone'] = dict(type='ResNet', depth=18, num_stages=1, strides=(1, ), dilations=(1, ), out_indices=(0, ))
    with pytest.raises(InputError, match='MSPEMaskRCNN needs a backbone with an MSPE layer, and ResNet has none'):
        MODELS.build(cfg)


def test_preprocessor_of_another_base_resolution():
    with pytest.raises(InputError, match=r'data_preprocessor has img_size=\(64, 64\), patch_size=16 and backbone has '
                                         r'img_size=\(128, 128\), patch_size=16: they must be the same'):
        MODELS.build(mask_rcnn(img_size=64, backbone=dict(img_size=128)))
    with pytest.raises(InputError, match='patch_size=8'):
        MODELS.build(mask_rcnn(img_size=64, backbone=dict(patch_size=8, kernel_sizes=(8, ))))


def test_nothing_to_tune():
    with pytest.raises(ValueError, match='nothing to tune'):
        MODELS.build(mask_rcnn(tuning=dict(), backbone=dict(kernel_sizes=(16, ))))


def test_tiny_backbone_is_what_the_tests_assume():
    windows = [block.window_size for block in MODELS.build(tiny_backbone()).blocks]
    assert windows == [3, 0]
