"""Learning rates that follow the size of a patch kernel."""
from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..layers.token_grids import native_size


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FanInOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """A learning rate of ``lr * fan_in(pretrained kernel) / fan_in(kernel)`` for every patch kernel, ``lr`` for all else.

    Adam moves each weight by about its learning rate, and a token is a sum over the weights of a kernel. With one rate for
    all, tokens of large kernels move more than those of small ones, whose weights are few and large. This is muP's rule for
    Adam (Yang et al., Tensor Programs V, 2021). The fan-in of a kernel is its channels times its pixels, context included.

    Args:
        optim_wrapper_cfg: As mmengine's.
        paramwise_cfg: As mmengine's. ``relative_to_kernel=True`` says that ``lr`` is meant as a share of the pretrained
            kernel: kernels in other units than those of ``parameterization='relative'`` are refused.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Without any setting, mmengine does not ask for groups of parameters.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or dict(bias_lr_mult=1.))

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        super().add_params(params, module, prefix, **kwargs)
        if prefix:    # mmengine calls this method for every module below, too
            return
        factors = {}
        for layer in module.modules():
            if isinstance(layer, MultiScalePatchEmbed):
                if self.paramwise_cfg.get('relative_to_kernel') and layer.parameterization != 'relative':
                    raise InputError(f"the schedule's learning rate is a share of the pretrained kernel "
                                     f'(relative_to_kernel), and the model has parameterization={layer.parameterization!r}: '
                                     "set parameterization='relative' in model.backbone or model.patch_embed, or "
                                     'optim_wrapper.paramwise_cfg.relative_to_kernel=False and a learning rate of your own')
                for name, kernel in layer.kernels.items():
                    ratio = layer.geometry.kernel_size / layer.geometry.kernel(native_size(name))
                    factors.update(dict.fromkeys(kernel.parameters(), ratio**2))
        for group in params:    # of one parameter each
            group['lr'] = group.get('lr', self.base_lr) * factors.get(group['params'][0], 1.)
