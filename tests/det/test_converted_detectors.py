"""Stock mmdet backbones converted by a key of the config: Swin Mask R-CNN and PVT v2 RetinaNet, and their configs."""
from __future__ import annotations

import copy
from pathlib import Path

import mmdet
import pytest
import torch
from det_helpers import lively
from helpers import randomize, relative_error
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper

from mspe_mm import InputError
from mspe_mm.models.adapter import load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed

CONFIGS = Path(__file__).parents[2] / 'configs'
HOST_CONFIGS = Path(mmdet.__file__).parent / '.mim/configs'
HOSTS = {'mask-rcnn_swin-t_mspe_coco': 'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
         'retinanet_pvtv2-b0_mspe_coco': 'pvt/retinanet_pvtv2-b0_fpn_1x_coco.py'}
BASE = (64, 64)
every_config = pytest.mark.parametrize('name', HOSTS)


def tiny_config(name: str) -> ConfigDict:
    """The model of a config of the repository, small, at 64 x 64 and with three classes."""
    model = Config.fromfile(CONFIGS / f'{name}.py').model
    model.data_preprocessor.img_size = BASE
    model.patch_embed.base_resolution = BASE
    model.neck.out_channels = 8
    if 'mask' in name:
        model.backbone.update(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, convert_weights=False)
        model.neck.in_channels = [8, 16, 32, 64]
        model.rpn_head.update(in_channels=8, feat_channels=8)
        model.roi_head.bbox_roi_extractor.out_channels = model.roi_head.mask_roi_extractor.out_channels = 8
        model.roi_head.bbox_head.update(in_channels=8, fc_out_channels=16, num_classes=3)
        model.roi_head.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=3, num_convs=1)
        model.train_cfg.rpn_proposal.max_per_img = model.test_cfg.rpn.max_per_img = 20
        model.test_cfg.rcnn.score_thr = 0.
        model.test_cfg.rcnn.max_per_img = 10
    else:
        model.backbone.update(embed_dims=4, num_layers=[1] * 4, num_heads=[1, 2, 2, 2])
        model.neck.in_channels = [4, 8, 8, 8]
        model.bbox_head.update(in_channels=8, feat_channels=8, stacked_convs=1, num_classes=3)
        model.test_cfg.update(score_thr=0., max_per_img=10)
        model.test_cfg.nms.iou_threshold = 1.    # boxes that overlap by nearly as much as is allowed come and go by rounding
    return model


def stock_config(name: str) -> ConfigDict:
    model = tiny_config(name)
    model.type = model.type.replace('MSPE', '')
    del model.patch_embed, model.tuning
    return model


def mspe_model(name: str, seed: int = 0, **patch_embed) -> torch.nn.Module:
    """With weights drawn anew, so that scores and boxes differ from place to place."""
    torch.manual_seed(seed)
    config = tiny_config(name)
    config.patch_embed.update(patch_embed)
    return lively(MODELS.build(config)).eval()


def batch(images: torch.Tensor, factor: float = 1.) -> dict:
    """A batch of images whose originals have ``1 / factor`` of their size, with boxes and masks."""
    data = demo_mm_inputs(
        len(images), [tuple(image.shape) for image in images], num_items=[2, 3], num_classes=3, with_mask=True)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(ori_shape=tuple(round(length / factor) for length in images.shape[-2:]),
                                 scale_factor=(factor, factor)))
    return dict(data, inputs=list(images))


def blocks(size: int, length: int) -> torch.Tensor:
    """Two 8-bit images of ``length`` px that are constant on squares of ``size`` px."""
    small = torch.randint(0, 255, (2, 3, length // size, length // size), generator=torch.Generator().manual_seed(0))
    return small.to(torch.uint8).repeat_interleave(size, 2).repeat_interleave(size, 3)


@every_config
def test_a_stock_checkpoint_loads_strictly_and_detects_bit_for_bit_at_the_base_resolution(name):
    model, host = mspe_model(name), MODELS.build(stock_config(name))
    host.load_state_dict({key: value for key, value in model.state_dict().items() if '.kernels.' not in key}, strict=True)
    model.load_state_dict(host.state_dict(), strict=True)
    randomize(find_patch_embed(model).kernels)
    assert type(host).__module__.startswith('mmdet.')
    host.eval()
    for m in (host, model):
        m.requires_grad_(False)
    for ours, theirs in zip(*(m.test_step(batch(blocks(1, 64))) for m in (model, host))):
        assert len(theirs.pred_instances)
        for key in theirs.pred_instances.keys():  # noqa: SIM118
            assert torch.equal(ours.pred_instances[key], theirs.pred_instances[key])


@every_config
@pytest.mark.parametrize(('block', 'length'), [(4, 16), (2, 32), (1, 128)])
@torch.no_grad()
def test_an_image_of_the_same_content_has_the_same_detections_at_another_resolution(name, block, length):
    """Where shrinking by areas loses nothing, nothing is lost: in the original's pixels, through every stage."""
    model = mspe_model(name, context=0, downsampling=dict(interpolation='area', correlation=0.))
    base = blocks(block, 64)
    other = base[..., ::block, ::block] if length < 64 else base.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert other.shape[-1] == length
    features = [model.extract_feat(model.data_preprocessor(batch(images))['inputs']) for images in (base, other)]
    assert all(relative_error(ours, theirs) < 1e-4 for ours, theirs in zip(*features))
    expected, actual = model.test_step(batch(base)), model.test_step(batch(other, length / 64))
    for ours, theirs in zip(actual, expected):
        assert len(theirs.pred_instances)
        torch.testing.assert_close(ours.pred_instances.bboxes, theirs.pred_instances.bboxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(ours.pred_instances.scores, theirs.pred_instances.scores, rtol=0, atol=1e-5)
        assert torch.equal(ours.pred_instances.labels, theirs.pred_instances.labels)


@every_config
def test_one_step_of_the_recipe_moves_kernels_alone_one_for_each_image(name):
    model = mspe_model(name)
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))
    before = copy.deepcopy(model.state_dict())
    logged = model.train().train_step(batch(blocks(1, 64)), optim_wrapper)
    assert logged['loss'].isfinite()
    assert set(logged) == {'loss', 'loss_distill'}
    changed = {key.rpartition('.')[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert len(changed) == 2    # images, of which each has its own kernel
    assert all('.kernels.' in key for key in changed)


@every_config
def test_one_step_of_passes_moves_all_kernels_alone(name):
    config = tiny_config(name)
    config.tuning = dict(type='MultiResolutionObjective')
    model = lively(MODELS.build(config))
    before = copy.deepcopy(model.state_dict())
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))
    logged = model.train().train_step(batch(blocks(1, 64)), optim_wrapper)
    assert logged['loss'].isfinite()
    assert {key.split('.')[0] for key in logged} == {'loss', 'k1', 'k2', 'k3'}
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if '.kernels.' in key} != set()


def test_an_adapter_of_another_detector_is_refused(tmp_path):
    path = tmp_path / 'adapter.safetensors'
    first, second = HOSTS
    model = mspe_model(first)
    save_adapter(find_patch_embed(model), path)
    load_adapter(find_patch_embed(model), path)
    for other, reason in ((mspe_model(second), 'embed_dims'), (mspe_model(first, 1), 'does not fit this checkpoint')):
        with pytest.raises(InputError, match=reason):
            load_adapter(find_patch_embed(other), path)


def test_detectors_and_segmentors_refuse_the_adapters_of_each_other(tmp_path):
    """PVT v2 and SegFormer have the same patches, kernels and width: the pretrained kernel tells them apart."""
    from mmseg.utils import register_all_modules

    from mspe_mm.seg import MSPEEncoderDecoder
    register_all_modules(init_default_scope=False)
    detector, detector_config = mspe_model('retinanet_pvtv2-b0_mspe_coco'), tiny_config('retinanet_pvtv2-b0_mspe_coco')
    config = Config.fromfile(CONFIGS / 'segformer_mit-b0_mspe_ade20k.py').model
    config.backbone.update(embed_dims=4, num_layers=[1] * 4, num_heads=[1, 1, 2, 2], _scope_='mmseg')
    config.decode_head.update(in_channels=[4, 4, 8, 8], channels=8, norm_cfg=dict(type='BN'), _scope_='mmseg')
    config.data_preprocessor.update(size=BASE, _scope_='mmseg')
    config.patch_embed = detector_config.patch_embed    # as the detector's
    del config.type
    segmentor = MSPEEncoderDecoder(**config)
    layers = [find_patch_embed(model) for model in (detector, segmentor)]
    for name, layer, other in zip(('detector', 'segmentor'), layers, reversed(layers)):
        path = tmp_path / f'{name}.safetensors'
        save_adapter(randomize(layer), path)
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(InputError, match=f'{name}.safetensors does not fit this checkpoint'):
            load_adapter(other, path)
        assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())


@every_config
def test_the_canvas_holds_the_zoos_images_and_whole_windows_of_every_stage(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    model = cfg.model
    assert model.patch_embed.base_resolution == model.data_preprocessor.img_size == (1344, 1344)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == cfg.train_dataloader.dataset.pipeline[2].scale == (1333, 800)
    assert all(1344 // stride % model.backbone.get('window_size', 1) == 0 for stride in (4, 8, 16, 32))


@every_config
def test_the_model_is_the_hosts_own(name):
    """Architecture, training and testing of mmdet's config, whose checkpoint is loaded."""
    ours = Config.fromfile(CONFIGS / f'{name}.py')
    host = Config.fromfile(HOST_CONFIGS / HOSTS[name]).model.to_dict()
    model = copy.deepcopy(ours.model.to_dict())
    assert model.pop('type') == f'MSPE{host.pop("type")}'
    own = [model.pop(key) for key in ('patch_embed', 'tuning')]
    assert all(value is not None for value in own)
    preprocessor, host_preprocessor = model.pop('data_preprocessor'), host.pop('data_preprocessor')
    for key in ('mean', 'std', 'bgr_to_rgb', 'pad_mask'):
        assert preprocessor.get(key) == host_preprocessor.get(key)
    host['backbone'].pop('init_cfg')
    assert differences(model, host) <= {'rpn_head.num_convs', 'roi_head.mask_head.norm_cfg'}    # said though the default
    metafile, = (HOST_CONFIGS / HOSTS[name]).parent.glob('metafile.y*ml')
    weights = [line.split()[-1] for line in metafile.read_text().splitlines() if 'Weights:' in line]
    assert ours.load_from in weights
    assert dict(type='AdapterHook') in ours.custom_hooks


def differences(a: dict, b: dict, prefix: str = '') -> set[str]:
    """Keys, dotted, whose values differ."""
    found = set()
    for key in a.keys() | b.keys():
        x, y = a.get(key, '-'), b.get(key, '-')
        if isinstance(x, dict) and isinstance(y, dict):
            found |= differences(x, y, f'{prefix}{key}.')
        elif x != y:
            found.add(f'{prefix}{key}')
    return found
