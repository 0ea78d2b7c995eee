"""Loading mmdetection's ViTDet checkpoint, vitdet_mask-rcnn_vit-b-mae_lsj-100e, from the list of what is in it."""
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mspe_mm import InputError
from mspe_mm.core import pi_resize
from mspe_mm.models.checkpoint import check_fits

CONFIGS = Path(__file__).parents[2] / 'configs'


def linear(name, out_features, in_features):
    return {f'{name}.weight': (out_features, in_features), f'{name}.bias': (out_features, )}


def norm(name, channels):
    return {f'{name}.weight': (channels, ), f'{name}.bias': (channels, )}


def convolution(name, out_channels, in_channels, size, bias=True):
    return {f'{name}.weight': (out_channels, in_channels, size, size),
            **({f'{name}.bias': (out_channels, )} if bias else {})}


def transposed(name, in_channels, out_channels):
    return {f'{name}.weight': (in_channels, out_channels, 2, 2), f'{name}.bias': (out_channels, )}


def conv_norm(name, out_channels, in_channels, size):
    """mmcv's ConvModule: no bias before a norm, which is called norm_layer for what is none of BN, GN, LN, IN."""
    return {**convolution(f'{name}.conv', out_channels, in_channels, size, bias=False),
            **norm(f'{name}.norm_layer', out_channels)}


def published_parameters():
    """Names and shapes: ViT-B (12 blocks, width 768, 12 heads), window 14, global blocks 2, 5, 8, 11, 197 positions."""
    shapes = {'backbone.pos_embed': (1, 197, 768), **convolution('backbone.patch_embed.proj', 768, 3, 16)}
    for i in range(12):
        block, tokens = f'backbone.blocks.{i}', 64 if i in (2, 5, 8, 11) else 14
        shapes |= {
            **norm(f'{block}.norm1', 768),
            f'{block}.attn.rel_pos_h': (2 * tokens - 1, 64),
            f'{block}.attn.rel_pos_w': (2 * tokens - 1, 64),
            **linear(f'{block}.attn.qkv', 2304, 768),
            **linear(f'{block}.attn.proj', 768, 768),
            **norm(f'{block}.norm2', 768),
            **linear(f'{block}.mlp.fc1', 3072, 768),
            **linear(f'{block}.mlp.fc2', 768, 3072),
        }
    shapes |= {
        **transposed('neck.fpn1.0', 768, 384), **norm('neck.fpn1.1', 384), **transposed('neck.fpn1.3', 384, 192),
        **transposed('neck.fpn2.0', 768, 384),
    }
    for i, channels in enumerate((192, 384, 768, 768)):
        shapes |= conv_norm(f'neck.lateral_convs.{i}', 256, channels, 1) | conv_norm(f'neck.fpn_convs.{i}', 256, 256, 3)
    shapes |= {
        **convolution('rpn_head.rpn_conv.0.conv', 256, 256, 3), **convolution('rpn_head.rpn_conv.1.conv', 256, 256, 3),
        **convolution('rpn_head.rpn_cls', 3, 256, 1), **convolution('rpn_head.rpn_reg', 12, 256, 1),
        **linear('roi_head.bbox_head.shared_fcs.0', 1024, 7 * 7 * 256),
        **linear('roi_head.bbox_head.fc_cls', 81, 1024), **linear('roi_head.bbox_head.fc_reg', 320, 1024),
        **transposed('roi_head.mask_head.upsample', 256, 256), **convolution('roi_head.mask_head.conv_logits', 80, 256, 1),
    }
    for i in range(4):
        shapes |= conv_norm(f'roi_head.bbox_head.shared_convs.{i}', 256, 256, 3)
        shapes |= conv_norm(f'roi_head.mask_head.convs.{i}', 256, 256, 3)
    return shapes


PUBLISHED = published_parameters()


def build(config):
    """The model of a config; drawing 111 million numbers first would only take time."""
    cfg = Config.fromfile(CONFIGS / config).model
    with pytest.MonkeyPatch.context() as patch:
        for name in ('trunc_normal_', 'kaiming_uniform_', 'kaiming_normal_', 'xavier_uniform_', 'normal_', 'uniform_'):
            patch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
        return MODELS.build(cfg)


def test_totals():
    backbone = sum(torch.Size(shape).numel() for name, shape in PUBLISHED.items() if name.startswith('backbone.'))
    # 85,054,464 of ViT-B's twelve blocks, 590,592 of the patch embedding, 197 positions, relative positions.
    assert backbone == 12 * (12 * 768**2 + 13 * 768) + 590592 + 197 * 768 + 2 * 64 * (8 * 27 + 4 * 127)
    assert sum(torch.Size(shape).numel() for shape in PUBLISHED.values()) == 110895792
    assert len(PUBLISHED) == 245


def test_stock_config_has_these_parameters():
    model = build('vitdet_coco.py')
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == PUBLISHED


@pytest.mark.parametrize(('config', 'sizes'), [('vitdet_mspe_coco.py', (1, 2, 3, 4, 6, 8, 12)),
                                               ('vitdet_mspe_5e_coco.py', (4, 8, 12))])
def test_loads_strictly_into_the_mspe_model(config, sizes):
    model = build(config)
    checkpoint = {name: torch.empty(shape) for name, shape in PUBLISHED.items()}
    checkpoint['backbone.patch_embed.proj.weight'].normal_()
    check_fits(model, checkpoint, 'published.pth')
    model.load_state_dict(dict(checkpoint), strict=True)
    own = model.state_dict()
    assert {name for name in own if name not in PUBLISHED} == {
        f'backbone.patch_embed.kernels.{k}.{name}' for k in sizes for name in ('weight', 'bias')}
    for name in ('backbone.patch_embed.proj.weight', 'backbone.blocks.11.attn.rel_pos_w', 'neck.fpn1.3.weight'):
        assert own[name].equal(checkpoint[name]) or own[name].isnan().any()
    # The added kernels start from the loaded one, resized, and have no correction.
    layer = model.backbone.patch_embed
    weight, _ = layer.sized_kernel((8, 8), layer.kernel_sizes.index(8))
    if layer.context == 0:
        torch.testing.assert_close(weight, pi_resize(checkpoint['backbone.patch_embed.proj.weight'], (8, 8)))
    assert not layer.is_tuned()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        name for name in own if '.kernels.' in name]


@pytest.mark.parametrize(('change', 'sentence'), [
    (lambda c: c.pop('neck.fpn2.0.bias'), r'1 missing \(neck.fpn2.0.bias\)'),
    (lambda c: c.update({'backbone.cls_token': torch.zeros(1)}), r'1 unexpected \(backbone.cls_token\)'),
    (lambda c: c.update({'backbone.pos_embed': torch.zeros(1, 196, 768)}),
     r'1 of another shape \(backbone.pos_embed \(1, 196, 768\) for \(1, 197, 768\)\)'),
])
def test_another_checkpoint_is_refused(change, sentence):
    with torch.device('meta'):
        checkpoint = {name: torch.empty(shape) for name, shape in PUBLISHED.items()}
    change(checkpoint)
    model = torch.nn.Module()
    model.state_dict = lambda: {name: torch.empty(shape, device='meta') for name, shape in PUBLISHED.items()}
    with pytest.raises(InputError, match=sentence):
        check_fits(model, checkpoint, 'other.pth')
