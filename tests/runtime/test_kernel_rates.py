import pytest
import torch
from helpers import layer_of
from mmengine.optim import build_optim_wrapper
from torch import nn

import mspe_mm.runtime.kernel_rates  # noqa: F401
from mspe_mm.errors import InputError


def model_of(**settings) -> nn.Sequential:
    return nn.Sequential(layer_of(patch_size=16, grid_size=4, **settings), nn.Linear(8, 8))


def rates_of(model: nn.Module, **settings) -> dict[nn.Parameter, float]:
    wrapper = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='FanInOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-3), **settings))
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    return {parameter: group['lr'] for group in wrapper.optimizer.param_groups for parameter in group['params']}


@pytest.mark.parametrize('context', [0, 3])
def test_rates_are_inversely_proportional_to_the_fan_in_of_a_kernel(context):
    model = model_of(kernel_sizes=(2, 4, 12, 16), context=context)
    rates, layer = rates_of(model), model[0]
    for kernel in layer.kernels.values():
        fan_in = kernel.weight[0].numel()
        assert rates[kernel.weight] == rates[kernel.bias] == pytest.approx(1e-3 * layer.base.weight[0].numel() / fan_in)
    others = {*model.parameters()} - {*layer.kernels.parameters()}
    assert {rates[parameter] for parameter in others} == {1e-3}


def test_settings_of_mmengines_constructor_hold_too():
    model = model_of(kernel_sizes=(8, 16))
    rates = rates_of(model, paramwise_cfg=dict(custom_keys={'kernels.8': dict(lr_mult=0.5)}))
    assert rates[model[0].kernels['8'].weight] == pytest.approx(1e-3 * 4 / 2)


def test_a_rate_that_is_a_share_of_the_pretrained_kernel_is_for_kernels_in_its_units():
    settings = dict(paramwise_cfg=dict(relative_to_kernel=True))
    layer = model_of(parameterization='relative')[0]
    assert rates_of(nn.Sequential(layer), **settings)[layer.kernels['8'].weight] == pytest.approx(4e-3)
    with pytest.raises(InputError, match=r"parameterization='residual': set parameterization='relative' in model\.backbone"):
        rates_of(model_of(), **settings)
