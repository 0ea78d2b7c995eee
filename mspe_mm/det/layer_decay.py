"""Layer-wise learning-rate decay for ViTDet (BEiT's; ViTDet, appendix A)."""
from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


def layer_of(name: str, num_layers: int) -> int:
    """The layer of a parameter: 0 for the embeddings, 1 .. num_layers for the blocks, num_layers + 1 for all others."""
    if name.startswith('backbone.blocks.'):
        return int(name.split('.')[2]) + 1
    if name.startswith(('backbone.patch_embed.', 'backbone.pos_embed')):
        return 0
    return num_layers + 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MSPELayerDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    """A learning rate of ``lr * decay_rate ** (num_layers + 1 - layer)`` for every layer.

    The backbone's norms and its absolute positions have no weight decay, as in mmdetection's ViTDet project.
    ``paramwise_cfg`` holds ``num_layers`` (blocks of the backbone) and ``decay_rate``.
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        num_layers, decay_rate = self.paramwise_cfg['num_layers'], self.paramwise_cfg['decay_rate']
        groups: dict[tuple, dict] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            layer = layer_of(name, num_layers)
            decays = not (name.startswith('backbone.blocks.') and '.norm' in name) and 'pos_embed' not in name
            group = groups.setdefault((layer, decays), dict(
                params=[], lr=self.base_lr * decay_rate**(num_layers + 1 - layer),
                weight_decay=(self.base_wd or 0.) if decays else 0.))
            group['params'].append(parameter)
        params.extend(groups.values())
