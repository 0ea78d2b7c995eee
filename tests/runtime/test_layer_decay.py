import pytest
import torch
from det_helpers import mask_rcnn
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

import mspe_mm.det  # noqa: F401
from mspe_mm.runtime.layer_decay import layer_of


@pytest.mark.parametrize(('name', 'layer'), [
    ('backbone.pos_embed', 0),
    ('backbone.patch_embed.proj.weight', 0),
    ('backbone.patch_embed.kernels.4.weight', 0),
    ('backbone.vit.patch_embed.proj.weight', 0),
    ('backbone.vit.reg_token', 0),
    ('backbone.blocks.0.norm1.weight', 1),
    ('backbone.blocks.11.mlp.fc2.bias', 12),
    ('backbone.vit.blocks.11.mlp.fc2.bias', 12),
    ('backbone.vit.norm.weight', 13),
    ('neck.fpn1.0.weight', 13),
    ('roi_head.bbox_head.fc_cls.weight', 13),
])
def test_layers(name, layer):
    assert layer_of(name, 12) == layer


def test_learning_rates_and_weight_decay():
    init_default_scope('mmdet')
    model = MODELS.build(mask_rcnn())
    model.neck.requires_grad_(False)
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='MSPELayerDecayOptimizerConstructor',
        paramwise_cfg=dict(decay_rate=0.5, num_layers=2),
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    found = {id(p): (group['lr'], group['weight_decay']) for group in optimizer.param_groups for p in group['params']}
    expected = {'backbone.pos_embed': (1e-3 / 8, 0), 'backbone.patch_embed.proj.bias': (1e-3 / 8, 0.1),
                'backbone.blocks.0.norm1.weight': (1e-3 / 4, 0), 'backbone.blocks.0.attn.rel_pos_h': (1e-3 / 4, 0.1),
                'backbone.blocks.1.mlp.fc1.bias': (1e-3 / 2, 0.1), 'rpn_head.rpn_cls.bias': (1e-3, 0.1),
                'roi_head.mask_head.convs.0.norm_layer.weight': (1e-3, 0.1)}
    parameters = dict(model.named_parameters())
    for name, values in expected.items():
        assert found[id(parameters[name])] == pytest.approx(values)
    assert len(found) == sum(p.requires_grad for p in parameters.values())
