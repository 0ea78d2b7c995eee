"""One graph of the blocks for all resolutions; names, numbers and refusals."""
import copy
import re
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from helpers import noise, randomize
from mmengine.utils import digit_version
from model_zoo import MODELS, base_resolution, outputs, stock_model
from torch import nn
from torch._dynamo.testing import CompileCounter

from mspe_mm.core import MultiScalePatchEmbed, convert_patch_embed
from mspe_mm.det import MSPEViTDet
from mspe_mm.errors import InputError
from mspe_mm.evaluation.flops import count_flops
from mspe_mm.runtime.compilation import LEAST_VERSION, compile_blocks, encoder_blocks
from mspe_mm.seg import MSPEViT

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(digit_version(torch.__version__) < digit_version(LEAST_VERSION),
                                    reason=f'blocks are compiled from PyTorch {LEAST_VERSION} on')


@pytest.fixture(autouse=True)
def _no_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def segmentation_backbone(**changes):
    settings = dict(img_size=64, embed_dims=16, num_layers=3, num_heads=2, out_indices=(1, 2))
    return randomize(MSPEViT(**{**settings, **changes})).eval()


def detection_backbone(**changes):
    return randomize(MSPEViTDet(
        img_size=64, embed_dim=16, depth=4, num_heads=2, use_rel_pos=True, window_size=3, window_block_indexes=(0, 2),
        pretrain_img_size=32, **changes)).eval()


def image(*size):
    return noise(1, 3, *size, dtype=torch.float32)


@pytest.mark.parametrize('name', MODELS)
def test_the_blocks_of_a_host_are_all_that_attends_and_never_see_the_image(name):
    model = stock_model(name)
    convert_patch_embed(model, base_resolution(name))
    blocks = nn.ModuleList([block for blocks in encoder_blocks(model) for block in blocks])

    def attentions(root):
        return {id(module) for module in root.modules() if re.search('Attention|MSA', type(module).__name__)}

    assert attentions(blocks) == attentions(model) != set()
    assert not any(isinstance(module, MultiScalePatchEmbed) for module in blocks.modules())


@needs_compiler
@pytest.mark.parametrize(('backbone', 'kinds'), [(segmentation_backbone, 1), (detection_backbone, 2)])    # windowed, global
def test_one_graph_of_each_kind_of_block_serves_all_resolutions(backbone, kinds):
    eager, counter = backbone(), CompileCounter()
    compiled = copy.deepcopy(eager)
    compile_blocks(compiled, backend=counter, fullgraph=True)
    assert list(compiled.state_dict()) == list(eager.state_dict())
    with torch.no_grad():
        for size in ((64, 64), (32, 32), (24, 40), (20, 64), (128, 96), (4, 4), (100, 100)):    # multiples of the grid
            for actual, expected in zip(compiled(image(*size)), eager(image(*size))):
                torch.testing.assert_close(actual, expected)
    assert counter.frame_count == kinds


@needs_compiler
@pytest.mark.parametrize(('backbone', 'kinds', 'sizes'), [
    (segmentation_backbone, 1, ((64, 64), (32, 32), (48, 48), (80, 96), (128, 64), (40, 40))),
    # Windows of symbolic sizes take seconds to trace.
    pytest.param(detection_backbone, 2, ((64, 64), (32, 32)), marks=pytest.mark.slow),
])
def test_a_grid_that_follows_the_image_brings_one_more(backbone, kinds, sizes):
    eager, counter = backbone(kernel_policy='constant'), CompileCounter()
    compiled = copy.deepcopy(eager)
    compile_blocks(compiled, backend=counter)
    with torch.no_grad():
        for size in sizes:
            for actual, expected in zip(compiled(image(*size)), eager(image(*size))):
                torch.testing.assert_close(actual, expected)
    assert counter.frame_count == 2 * kinds


@needs_compiler
def test_a_converted_host_compiles_too():
    eager = stock_model('timm `vit_*`')
    convert_patch_embed(eager, base_resolution('timm `vit_*`'))
    compiled, counter = copy.deepcopy(eager), CompileCounter()
    compile_blocks(compiled, backend=counter)
    with torch.no_grad():
        for size in ((32, 48), (16, 24), (64, 96)):    # all on the base grid
            for actual, expected in zip(outputs(compiled, image(*size)), outputs(eager, image(*size))):
                torch.testing.assert_close(actual, expected)
    assert counter.frame_count == 1


@needs_compiler
def test_real_code_gives_the_numbers_and_the_flops_of_the_model_as_it_is_written():
    eager = segmentation_backbone(num_layers=1, out_indices=(0, ))
    compiled = copy.deepcopy(eager)
    compile_blocks(compiled)
    with torch.no_grad():
        for actual, expected in zip(compiled(image(32, 32)), eager(image(32, 32))):
            torch.testing.assert_close(actual, expected)
        assert count_flops(lambda: compiled(image(32, 32))) == count_flops(lambda: eager(image(32, 32)))


@needs_compiler
@pytest.mark.parametrize('backbone', [segmentation_backbone, detection_backbone])
@pytest.mark.parametrize('tuning', [False, True])
def test_a_whole_backbone_has_one_graph_for_each_resolution(backbone, tuning):
    eager, counter = backbone().requires_grad_(False), CompileCounter()
    eager.patch_embed.kernels.requires_grad_(tuning)
    eager.patch_embed.train(tuning)
    compiled = torch.compile(eager, backend=counter, fullgraph=True, dynamic=False)    # symbolic windows take long to trace
    with torch.set_grad_enabled(tuning):
        for seen in range(2):
            for number, size in enumerate(((48, 48), (32, 32), (24, 40)), 1):
                for actual, expected in zip(compiled(image(*size)), eager(image(*size))):
                    torch.testing.assert_close(actual, expected)
                    assert actual.requires_grad == tuning
                assert counter.frame_count == (3 if seen else number)


@needs_compiler
@pytest.mark.parametrize('backbone', [segmentation_backbone, detection_backbone])
def test_a_compiled_backbone_embeds_by_what_is_forced(backbone):
    eager, counter = backbone().requires_grad_(False), CompileCounter()
    compiled = torch.compile(eager, backend=counter, fullgraph=True, dynamic=False)
    layer, x = eager.patch_embed, image(32, 32)
    contexts = [nullcontext, partial(layer.force_kernel, 0), partial(layer.force_kernel, 2), layer.pretrained_only,
                nullcontext, partial(layer.force_kernel, 0)]
    seen = []
    for context in contexts:
        with context():
            actual, expected = compiled(x)[-1], eager(x)[-1]
        torch.testing.assert_close(actual, expected)
        seen.append(actual)
    assert not any(torch.allclose(a, b) for i, a in enumerate(seen[:4]) for b in seen[:i])
    assert counter.frame_count == 4


def test_an_old_pytorch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    with pytest.raises(InputError, match=r'compiling needs PyTorch 2\.6 or newer, and this is 2\.5\.1: leave out --compile'):
        compile_blocks(segmentation_backbone())


@needs_compiler
def test_a_model_without_blocks_is_refused():
    with pytest.raises(InputError, match='Conv2d cannot be compiled: it has no list of blocks'):
        compile_blocks(nn.Conv2d(3, 4, 1))
