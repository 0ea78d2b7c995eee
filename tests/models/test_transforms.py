"""Models that are traced, exported, mapped over and called by several threads, against the same models in eager mode."""
from __future__ import annotations

import io
from functools import partial

import onnx
import pytest
import torch
from helpers import in_threads, noise, randomize
from mmengine.analysis import get_model_complexity_info
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from mspe_mm.det import MSPEViTDet
from mspe_mm.seg import MSPEEncoderDecoder, MSPEViT

pytestmark = pytest.mark.slow

register_all_modules()

BACKBONE = dict(img_size=(64, 96), embed_dims=16, num_layers=2, num_heads=2, out_indices=(1, ), final_norm=True)
SIZES = [(64, 96), (32, 48), (24, 30), (80, 60)]


def backbone(**changes) -> MSPEViT:
    torch.manual_seed(0)
    return randomize(MSPEViT(**{**BACKBONE, **changes})).eval()


def segmentor(**changes) -> MSPEEncoderDecoder:
    init_default_scope('mmseg')    # tests of other hosts in the same process have others
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='MSPEEncoderDecoder', tuning=dict(objective='both'), train_cfg=dict(), test_cfg=dict(mode='whole'),
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 96)),
        backbone=dict(type='MSPEViT', **{**BACKBONE, **changes}),
        decode_head=dict(type='FCNHead', in_channels=16, channels=8, in_index=0, num_convs=1, num_classes=3,
                         norm_cfg=dict(type='BN'))))
    return randomize(model).eval()


def detection_backbone(**changes) -> MSPEViTDet:
    torch.manual_seed(0)
    return randomize(MSPEViTDet(
        img_size=(64, 96), embed_dim=16, depth=2, num_heads=2, use_rel_pos=True, window_size=3, window_block_indexes=(0, ),
        pretrain_img_size=32, **changes)).eval()


RELATIVE = dict(position='relative', with_cls_token=False)
MODELS_OF = {
    'MSPEViT': backbone,
    'MSPEViT, naive attention': partial(backbone, attention='naive'),
    'MSPEViT, native': partial(backbone, parameterization='native'),
    'MSPEViT, context': partial(backbone, context={4: 3, 8: 1}, downsampling=dict(correlation=0.9)),
    'MSPEViT, sinusoidal': partial(backbone, position='sinusoidal'),
    'MSPEViT, relative': partial(backbone, **RELATIVE),
    'tuned segmentor': segmentor,
    'MSPEViTDet': detection_backbone,
    'MSPEViTDet, context': partial(detection_backbone, context=2)
}
every_model = pytest.mark.parametrize('name', MODELS_OF)


def image(size: tuple[int, int], batch: int = 1) -> Tensor:
    return noise(batch, 3, *size, dtype=torch.float32)


def output(model: nn.Module, x: Tensor) -> Tensor:
    out = model(x)
    return out if isinstance(out, Tensor) else out[-1]


@every_model
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('grad', [False, True])
def test_a_traced_model_gives_the_outputs_of_its_resolution(name, size, grad):
    model = MODELS_OF[name]()
    with torch.set_grad_enabled(grad):
        expected = output(model, image(size))
        traced = torch.jit.trace(model, image(size), check_trace=False)
        for x in (image(size), image(size) * 2 + 1):
            torch.testing.assert_close(output(traced, x), output(model, x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(output(model, image(size)), expected, rtol=0, atol=0)    # and leaves nothing behind


@every_model
def test_an_exported_model_gives_the_outputs_of_its_resolution(name):
    model = MODELS_OF[name]()
    for size in SIZES[:3]:
        exported = torch.export.export(model, (image(size), ), strict=False).module()
        torch.testing.assert_close(output(exported, image(size) + 1), output(model, image(size) + 1), rtol=1e-5, atol=1e-5)
        with pytest.raises((AssertionError, RuntimeError), match=r'[Ee]xpected|[Gg]uard'):
            exported(image((40, 40)))    # another resolution has another kernel, stride and padding


@every_model
@pytest.mark.parametrize('size', SIZES[:3])
def test_vmap_over_images_gives_their_outputs(name, size):
    model = MODELS_OF[name]().requires_grad_(False)
    images = noise(3, 1, 3, *size, dtype=torch.float32)
    expected = torch.stack([output(model, x) for x in images])
    torch.testing.assert_close(torch.func.vmap(partial(output, model))(images), expected, rtol=1e-5, atol=1e-5)


@every_model
@pytest.mark.parametrize('size', SIZES[:3])
def test_functional_call_and_vmap_over_weights_give_the_outputs_of_each_model(name, size):
    model, x = MODELS_OF[name]().requires_grad_(False), image(size)
    expected = output(model, x)
    weights = [{key: value * scale for key, value in model.named_parameters()} for scale in (1., 1.1)]

    def called(weights):
        out = torch.func.functional_call(model, weights, (x, ))
        return out if isinstance(out, Tensor) else out[-1]

    single = [called(w) for w in weights]
    torch.testing.assert_close(single[0], expected, rtol=0, atol=0)
    assert not torch.allclose(*single)
    mapped = torch.func.vmap(called)({key: torch.stack([w[key] for w in weights]) for key in weights[0]})
    torch.testing.assert_close(mapped, torch.stack(single), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output(model, x), expected, rtol=0, atol=0)


def test_gradients_of_func_are_those_of_backward():
    model, x = backbone(), image((32, 48))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    gradients = torch.func.grad(lambda w: torch.func.functional_call(model, w, (x, ))[-1].square().mean())(weights)
    output(model, x).square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', ['MSPEViT', 'MSPEViT, context', 'tuned segmentor'])
def test_the_legacy_onnx_export_takes_a_fixed_resolution(name):
    model, file = MODELS_OF[name]().requires_grad_(False), io.BytesIO()
    torch.onnx.export(model, (image((32, 48)), ), file, dynamo=False, opset_version=17)
    graph = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(graph)
    shape = graph.graph.input[0].type.tensor_type.shape
    assert [axis.dim_value for axis in shape.dim] == [1, 3, 32, 48]


@pytest.mark.parametrize('name', ['MSPEViT', 'tuned segmentor'])
def test_mmengines_complexity_of_a_model_is_that_of_its_convolution_and_blocks(name):
    """The route of mmseg's get_flops.py, which traces the model."""
    flops = [get_model_complexity_info(MODELS_OF[name](), (3, *size))['flops'] for size in ((64, 96), (32, 48))]
    tokens, patch = 4 * 6, 16 * 16 * 3
    assert flops[0] > tokens * 16 * patch + 2 * tokens * 12 * 16 * 16    # patches, and the linear layers of two blocks
    assert 0.5 * flops[0] < flops[1] < flops[0]    # the grid is the same and the patches are smaller


@every_model
def test_threads_at_several_resolutions_give_what_one_thread_gives(name):
    model = MODELS_OF[name]()
    images = [image(SIZES[i % len(SIZES)] if i % 3 else (8 + i % 40, 12 + i % 32)) for i in range(200)]

    def called(x):
        with torch.no_grad():
            return output(model, x)

    expected = [called(x) for x in images]
    assert all(torch.equal(a, e) for a, e in zip(in_threads(called, images), expected))
