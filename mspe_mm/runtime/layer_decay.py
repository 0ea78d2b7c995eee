"""Layer-wise learning-rate decay for plain Vision Transformers (BEiT's; ViTDet, appendix A)."""
from __future__ import annotations

import re

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

# Of a backbone that is a Vision Transformer itself (MSPEViTDet), or holds one (MSPETimmViT).
BLOCK = re.compile(r'backbone\.(?:vit\.)?blocks\.(\d+)\.')
EMBEDDINGS = re.compile(r'backbone\.(?:vit\.)?(patch_embed\.|pos_embed|cls_token|reg_token|norm_pre\.)')
NOT_DECAYED = re.compile(r'backbone\.(?:vit\.)?(blocks\..*\.norm|pos_embed|cls_token|reg_token)')


def layer_of(name: str, num_layers: int) -> int:
    """The layer of a parameter: 0 for the embeddings, 1 .. num_layers for the blocks, num_layers + 1 for all others."""
    block = BLOCK.match(name)
    if block:
        return int(block[1]) + 1
    return 0 if EMBEDDINGS.match(name) else num_layers + 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MSPELayerDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """A learning rate of ``lr * decay_rate ** (num_layers + 1 - layer)`` for every layer.

    The norms of the backbone's blocks, its absolute positions, class and register tokens have no weight decay, as in
    mmdetection's ViTDet project and in timm.
    ``paramwise_cfg`` holds ``num_layers`` (blocks of the backbone) and ``decay_rate``.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        num_layers, decay_rate = self.paramwise_cfg['num_layers'], self.paramwise_cfg['decay_rate']
        groups: dict[tuple, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            layer = layer_of(name, num_layers)
            decays = NOT_DECAYED.match(name) is None
            group = groups.setdefault((layer, decays), dict(
                params=[], lr=self.base_lr * decay_rate**(num_layers + 1 - layer),
                weight_decay=(self.base_wd or 0.) if decays else 0.))
            group['params'].append(parameter)
        params.extend(groups.values())
