"""MSPEViT against mmseg's VisionTransformer with the same weights."""
import pytest
import torch
from helpers import noise, randomize, relative_error, timm_resample
from mmseg.models.backbones import VisionTransformer
from mmseg.models.utils import PatchEmbed

from mspe_mm.core import MultiScalePatchEmbed, pi_resize
from mspe_mm.seg import MSPEViT

BASE = (64, 96)    # 4 x 6 tokens
GRID = (4, 6)
parameterizations = pytest.mark.parametrize('parameterization', ['native', 'residual'])


def settings(**changes) -> dict:
    """Keyword arguments of the host's VisionTransformer."""
    return {**dict(img_size=BASE, patch_size=16, embed_dims=16, num_layers=4, num_heads=2, patch_bias=True,
                   interpolate_mode='bilinear', out_indices=(0, 1, 2, 3)), **changes}


def stock_model(**changes) -> VisionTransformer:
    stock = randomize(VisionTransformer(**settings(**changes)))
    stock.train(False)    # returns None
    return stock.requires_grad_(False)    # matmul picks its kernel by requires_grad, so both models are frozen


def mspe_model(stock: VisionTransformer, **changes) -> MSPEViT:
    """An MSPEViT with the weights of ``stock``."""
    model = MSPEViT(**settings(**changes))
    model.load_state_dict(stock.state_dict(), strict=True)
    return model.eval().requires_grad_(False)


def image(height: int, width: int) -> torch.Tensor:
    return noise(2, 3, height, width, dtype=torch.float32)


def flat(outputs) -> list:
    """Feature maps, and class tokens where they come along."""
    return [tensor for out in outputs for tensor in (out if isinstance(out, (list, tuple)) else [out])]


def assert_same_bits(actual, expected):
    actual, expected = flat(actual), flat(expected)
    assert len(actual) == len(expected) > 0
    assert all(torch.equal(a, e) for a, e in zip(actual, expected))


@torch.no_grad()
def flexivit(stock: VisionTransformer, size, x, interpolation='bilinear', antialias=True):
    """Features of the stock model with its projection replaced by timm's resampling of it; the position table stays."""
    projection = stock.patch_embed.projection
    model = stock_model(**settings())
    model.load_state_dict(stock.state_dict())
    model.patch_embed = PatchEmbed(3, projection.out_channels, kernel_size=size, stride=size, padding='corner')
    model.patch_embed.projection.weight.copy_(timm_resample(projection.weight, size, interpolation, antialias))
    model.patch_embed.projection.bias.copy_(projection.bias)
    return model(x)


# -- At the base resolution --------------------------------------------------------------------------------------------


every_variant = pytest.mark.parametrize('changes', [
    {},
    dict(out_indices=-1),
    dict(out_indices=(1, 3), final_norm=True),
    dict(with_cls_token=False),
    dict(output_cls_token=True),
    dict(patch_norm=True),
    dict(patch_norm=True, patch_bias=False, norm_cfg=dict(type='LN', eps=1e-6)),
    dict(pre_norm=True, out_origin=True),
    dict(patch_pad='same'),
    dict(patch_pad=0),
    dict(img_size=96, interpolate_mode='bicubic'),
    dict(qkv_bias=False),
], ids=str)


@parameterizations
@every_variant
@torch.no_grad()
def test_at_the_base_resolution_every_output_is_the_hosts_bit_for_bit(changes, parameterization):
    stock = stock_model(**changes)
    model = mspe_model(stock, parameterization=parameterization, attention='naive', **changes)
    randomize(model.patch_embed.kernels)    # tuned or not
    x = image(*stock.img_size)
    assert_same_bits(model(x), stock(x))
    assert flat(model(x))[0].shape[-2:] == (stock.img_size[0] // 16, stock.img_size[1] // 16)


@every_variant
@torch.no_grad()
def test_fused_attention_gives_the_hosts_outputs_up_to_rounding(changes):
    stock = stock_model(**changes)
    model = mspe_model(stock, **changes)
    for dtype, tolerance in (torch.float32, 1e-5), (torch.float64, 1e-9):
        x = image(*stock.img_size).to(dtype)
        for actual, expected in zip(flat(model.to(dtype)(x)), flat(stock.to(dtype)(x))):
            torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('changes', [{}, dict(with_cp=True), dict(qkv_bias=False)], ids=str)
def test_fused_attention_gives_the_hosts_gradients(changes):
    gradients = []
    for attention in 'naive', 'fused':
        torch.manual_seed(0)
        model = randomize(MSPEViT(**settings(attention=attention, **changes))).double()
        model(image(32, 48).double())[-1].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    naive, fused = gradients
    assert naive.keys() == fused.keys()
    assert sum(gradient is not None for gradient in naive.values()) > 30
    for name, gradient in naive.items():
        torch.testing.assert_close(fused[name], gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('changes', [{}, dict(patch_norm=True), dict(final_norm=True), dict(pre_norm=True),
                                     dict(patch_bias=False), dict(qkv_bias=False), dict(attention='naive')], ids=str)
def test_parameter_names_are_the_hosts_and_the_kernels(changes):
    model = MSPEViT(**settings(**changes))
    stock = VisionTransformer(**settings(**{key: value for key, value in changes.items() if key != 'attention'}))
    added = model.state_dict().keys() - stock.state_dict().keys()
    assert stock.state_dict().keys() <= model.state_dict().keys()
    parts = ('weight', 'bias') if changes.get('patch_bias', True) else ('weight', )
    assert added == {f'patch_embed.kernels.{k}.{part}' for k in (4, 8, 12) for part in parts}


def test_train_and_eval_return_the_model():
    model = MSPEViT(**settings(norm_eval=True))
    assert model.eval() is model
    assert model.train() is model
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.LayerNorm))


# -- At other resolutions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('size', [(16, 24), (24, 36), (32, 48), (44, 66), (24, 60), (128, 192), (21, 30)])
@torch.no_grad()
def test_untrained_it_is_the_stock_model_with_timms_flexivit_kernel(size):
    stock = stock_model()
    patch = (size[0] // GRID[0], size[1] // GRID[1])
    model = mspe_model(stock, fit='floor')
    if size == (21, 30):    # the rest is padded to a fifth row, which the host gives a resized position table
        assert model(image(*size))[0].shape[-2:] == (5, 6)
    for actual, expected in zip(model(image(*size)), flexivit(stock, patch, image(*size))):
        assert relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize('k', [4, 8, 12, 16])
@torch.no_grad()
def test_untrained_native_is_the_stock_model_with_timms_flexivit_kernel_at_the_native_resolutions(k):
    stock = stock_model()
    x = image(k * GRID[0], k * GRID[1])
    model = mspe_model(stock, parameterization='native')
    for actual, expected in zip(model(x), flexivit(stock, (k, k), x)):
        assert relative_error(actual, expected) < 1e-5


@torch.no_grad()
def test_the_downsampling_model_of_the_config_is_used():
    stock = stock_model()
    model = mspe_model(stock, downsampling=dict(interpolation='bicubic', antialias=False))
    for actual, expected in zip(model(image(32, 48)), flexivit(stock, (8, 8), image(32, 48), 'bicubic', False)):
        assert relative_error(actual, expected) < 1e-5


@torch.no_grad()
def test_every_tuned_kernel_changes_the_features_at_its_resolution_alone():
    stock = stock_model()
    sizes = [(k * GRID[0], k * GRID[1]) for k in (4, 8, 12, 16)]
    for index, k in enumerate((4, 8, 12)):
        model, untrained = mspe_model(stock), mspe_model(stock)
        randomize(model.patch_embed.kernels[str(k)])
        same = [torch.equal(model(image(*size))[-1], untrained(image(*size))[-1]) for size in sizes]
        assert same == [i != index for i in range(4)]


@pytest.mark.parametrize('mode', ['bilinear', 'bicubic'])
@torch.no_grad()
def test_as_many_tokens_on_another_grid_get_a_resized_position_table(mode):
    """6 x 4 tokens are as many as 4 x 6, which is all that the host compares."""
    stock = stock_model(interpolate_mode=mode)
    model = mspe_model(stock, interpolate_mode=mode, kernel_policy='constant', kernel_sizes=(16, ), attention='naive')
    x = image(96, 64)
    stock.pos_embed.copy_(VisionTransformer.resize_pos_embed(stock.pos_embed, (6, 4), GRID, mode))
    assert_same_bits(model(x), stock(x))
    assert model(x)[0].shape[-2:] == (6, 4)


@pytest.mark.parametrize('size', [(64, 128), (48, 200)])
@torch.no_grad()
def test_another_number_of_tokens_gets_the_hosts_resized_position_table(size):
    stock = stock_model()
    model = mspe_model(stock, kernel_policy='isotropic', kernel_sizes=(16, ))
    k = min(size[0] // GRID[0], size[1] // GRID[1])
    for actual, expected in zip(model(image(*size)), flexivit(stock, (k, k), image(*size))):
        assert relative_error(actual, expected) < 1e-5
        assert actual.shape[-1] > GRID[1]


@pytest.mark.parametrize('patch_pad', ['corner', 'same', 0])
@torch.no_grad()
def test_constant_is_the_host_at_any_resolution_with_any_padding(patch_pad):
    stock = stock_model(patch_pad=patch_pad)
    model = mspe_model(stock, patch_pad=patch_pad, kernel_policy='constant', attention='naive')
    assert_same_bits(model(image(75, 50)), stock(image(75, 50)))


@torch.no_grad()
def test_an_image_of_one_pixel_is_embedded():
    assert all(out.isfinite().all() for out in mspe_model(stock_model())(image(1, 1)))


# -- Settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('changes', 'culprit'), [
    (dict(patch_pad=3), 'patch_pad.*3'),
    (dict(img_size=(70, 96)), 'img_size.*70'),    # has no whole number of patches, so no base resolution
    (dict(kernel_sizes=(4, 8)), 'kernel_sizes.*16'),
    (dict(attention='flash'), "attention 'flash'"),
    (dict(kernel_policy='square'), "kernel_policy 'square'"), (dict(parameterization='delta'), "parameterization 'delta'"),
    (dict(downsampling=dict(interpolation='lanczos')), "interpolation 'lanczos'")])
def test_settings_that_make_no_sense_are_refused_by_name(changes, culprit):
    with pytest.raises(ValueError, match=culprit):
        MSPEViT(**settings(**changes))


def test_frozen_exclude_reaches_the_kernels():
    model = MSPEViT(**settings(frozen_exclude=['patch_embed.kernels']))
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {f'patch_embed.kernels.{k}.{part}' for k in (4, 8, 12) for part in ('weight', 'bias')}


# -- init_weights ------------------------------------------------------------------------------------------------------


def assert_kernels_fit_the_base(layer: MultiScalePatchEmbed):
    for k, kernel in layer.kernels.items():
        native = layer.parameterization == 'native'
        weight = pi_resize(layer.base.weight, (int(k), int(k)))
        assert torch.equal(kernel.weight, weight if native else torch.zeros_like(weight))
        assert torch.equal(kernel.bias, layer.base.bias if native else torch.zeros_like(kernel.bias))


@parameterizations
@pytest.mark.parametrize('init_cfg', [
    None, dict(type='Kaiming', layer='Conv2d'), [dict(type='Normal', std=0.5, layer='Conv2d')]], ids=str)
def test_init_weights_leaves_the_kernels_consistent_with_the_new_base_kernel(parameterization, init_cfg):
    model = randomize(MSPEViT(**settings(parameterization=parameterization, init_cfg=init_cfg)))
    before = model.patch_embed.base.weight.clone()
    model.init_weights()
    assert not torch.equal(model.patch_embed.base.weight, before)
    assert_kernels_fit_the_base(model.patch_embed)


@parameterizations
def test_init_weights_from_a_stock_checkpoint_sets_the_kernels_from_it(tmp_path, parameterization):
    stock = stock_model()
    torch.save(dict(state_dict=stock.state_dict(), meta={}), tmp_path / 'stock.pth')
    model = MSPEViT(**settings(parameterization=parameterization),
                    init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth')))
    model.init_weights()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in stock.state_dict().items())
    assert_kernels_fit_the_base(model.patch_embed)


@parameterizations
def test_init_weights_from_an_mspe_checkpoint_keeps_its_kernels(tmp_path, parameterization):
    tuned = randomize(MSPEViT(**settings(parameterization=parameterization)))
    torch.save(tuned.state_dict(), tmp_path / 'mspe.pth')
    model = MSPEViT(**settings(parameterization=parameterization),
                    init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'mspe.pth')))
    model.init_weights()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in tuned.state_dict().items())


@pytest.mark.parametrize(('patch_size', 'quarters'), [(32, (8, 16, 24, 32)), (16, (4, 8, 12, 16)), (8, (2, 4, 6, 8))])
def test_kernel_sizes_are_quarters_of_any_patch_size(patch_size, quarters):
    model = MSPEViT(img_size=2 * patch_size, patch_size=patch_size, embed_dims=16, num_layers=1, num_heads=2, out_indices=0)
    assert model.patch_embed.kernel_sizes == quarters
    assert model.eval()(image(patch_size, patch_size))[0].shape == (2, 16, 2, 2)
