"""Conversion of Hugging Face models, against the hosts themselves. The table of docs/models.md is what passes here."""
from __future__ import annotations

import copy
import inspect
import pickle
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from helpers import noise, randomize, relative_error
from safetensors.torch import load_model
from torch import nn

from mspe_mm import InputError, convert_patch_embed
from mspe_mm.core import MultiResolutionObjective, MultiScalePatchEmbed, freeze_all_but_kernels, tuning_mode
from mspe_mm.models.adapter import load_adapter, save_adapter
from mspe_mm.models.find import find_patch_embed

hf = pytest.importorskip('transformers', reason='the environment of upstream has PyTorch 2.1, and transformers needs 2.6')

from transformers_families import FAMILIES, VIT, dinov2, outputs, sam, stock_model    # noqa: E402, I001

every_family = pytest.mark.parametrize('name', FAMILIES)


@lru_cache(None)
def _converted(name: str, seed: int) -> nn.Module:
    model = stock_model(name, seed)
    convert_patch_embed(model, FAMILIES[name].size)
    return model.requires_grad_(False)


def converted(name: str, seed: int = 0) -> nn.Module:
    return copy.deepcopy(_converted(name, seed))


def image(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return noise(2, 3, *size, dtype=torch.float32, seed=seed)


def at(name: str, share: float) -> tuple[int, int]:
    """The size at a share of the base resolution, with patches of whole pixels, rounded up."""
    size, patch = FAMILIES[name].size, FAMILIES[name].patch
    return tuple(length // patch * -int(-patch * share // 1) for length in size)


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


# -- The columns of the table ------------------------------------------------------------------------------------------


@every_family
def test_base_output_bit_identical(name):
    """Weights loaded before conversion, and after it by ``strict=True``; tuned kernels change nothing there."""
    stock, before, after = stock_model(name), converted(name), converted(name, seed=1)
    state = stock.state_dict()
    after.load_state_dict(state, strict=True)
    expected = outputs(stock, name, image(FAMILIES[name].size))
    for model in (before, after):
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
        assert not find_patch_embed(model).is_tuned()
        randomize(find_patch_embed(model).kernels)
        assert same(outputs(model, name, image(FAMILIES[name].size)), expected)
    assert all('.kernels.' in key for key in set(before.state_dict()) ^ set(state))


@every_family
def test_grid_kept_at_a_quarter_a_half_three_quarters_and_twice_the_resolution(name):
    model = converted(name)
    shapes = [tensor.shape for tensor in outputs(model, name, image(FAMILIES[name].size))]
    for share in (1 / 4, 1 / 2, 3 / 4, 2):
        assert [tensor.shape for tensor in outputs(model, name, image(at(name, share)))] == shapes, share


@every_family
def test_an_image_of_the_same_content_gives_the_same_at_another_resolution(name):
    """What the host is shown instead of the image has no influence, and its positions are those of the base grid."""
    model = stock_model(name)
    convert_patch_embed(model, FAMILIES[name].size, check=False, interpolation='area')
    for base, other in ((image(at(name, 1 / 2)).repeat_interleave(2, 2).repeat_interleave(2, 3), image(at(name, 1 / 2))),
                        (image(at(name, 1)), image(at(name, 1)).repeat_interleave(2, 2).repeat_interleave(2, 3))):
        for found, expected in zip(outputs(model, name, other), outputs(model, name, base)):
            assert relative_error(found, expected) < 2e-4


@every_family
def test_tuned_end_to_end_it_moves_the_kernels_alone(name):
    """One step of Eq. 7 on all resolutions at once: gradients reach theta, and nothing else changes."""
    model = converted(name)
    layer = find_patch_embed(model)
    freeze_all_but_kernels(model, layer)
    model.train()
    tuning_mode(model, layer)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = MultiResolutionObjective()(layer, image(FAMILIES[name].size), lambda x: dict(
        loss=[t.square().mean() for t in outputs(model, name, x) if t.is_floating_point()]))
    sum(sum(terms) for terms in losses.values()).backward()
    reached = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {key for key in before if '.kernels.' in key}
    optimizer.step()
    assert {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])} == reached


@every_family
def test_adapter_round_trip(name, tmp_path):
    path, half = tmp_path / 'adapter.safetensors', image(at(name, 1 / 2))
    model, other, stranger = converted(name), converted(name), converted(name, seed=1)
    randomize(find_patch_embed(model).kernels)
    save_adapter(find_patch_embed(model), path)
    load_adapter(find_patch_embed(other), path)
    assert same(outputs(other, name, half), outputs(model, name, half))
    with pytest.raises(InputError, match='does not fit this checkpoint'):
        load_adapter(find_patch_embed(stranger), path)
    assert not find_patch_embed(stranger).is_tuned()


@every_family
def test_save_pretrained_keeps_the_kernels(name, tmp_path):
    """By the host's loader first, which leaves the kernels out, and then by one line."""
    model = converted(name)
    randomize(find_patch_embed(model).kernels)
    model.save_pretrained(tmp_path, save_original_format=False)
    again = type(model).from_pretrained(tmp_path)
    assert {*model.state_dict()} - {*again.state_dict()} == {key for key in model.state_dict() if '.kernels.' in key}
    convert_patch_embed(again, FAMILIES[name].size, check=False)
    load_model(again, tmp_path / 'model.safetensors')
    assert find_patch_embed(again).is_tuned()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_documentation_says_what_passes():
    text = (Path(__file__).parents[2] / 'docs/models.md').read_text()
    text = text[text.index('| class of transformers |'):].split('\n\n')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('| ')]
    assert rows[0] == ['class of transformers', 'patch (kernel, if larger)', 'base output bit-identical',
                       'grid kept at 1/4, 1/2, 3/4, 2×', 'gradients to the kernels alone', 'adapter round trip',
                       '`save_pretrained` round trip']
    assert [row[0].strip('`') for row in rows[1:]] == list(FAMILIES)
    for row in rows[1:]:
        geometry = find_patch_embed(_converted(row[0].strip('`'), 0)).geometry
        size = f'{geometry.patch_size}' + (f' ({geometry.kernel_size})' if geometry.overlaps else '')
        assert row[1:] == [size, *['yes'] * 5]


def test_the_lines_of_the_documentation_run(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / 'docs/models.md').read_text()
    text = text[text.index('## Hugging Face transformers'):]
    code = text[text.index('```python') + len('```python'):].split('```')[0]
    load = hf.Dinov2Model.from_pretrained
    monkeypatch.setattr(hf.Dinov2Model, 'from_pretrained', lambda name: (
        stock_model('Dinov2Model') if '/' in name else load(name)))    # no download
    monkeypatch.chdir(tmp_path)
    names = dict(images=image((112, 112)))
    exec(code, names)
    assert names['tokens'].shape == (2, 1 + 16 * 16, 32)
    assert {file.name for file in tmp_path.iterdir()} == {'dinov2.safetensors', 'tuned'}
    assert torch.equal(names['model'](image((112, 112))).last_hidden_state, names['tokens'])


# -- Resolutions -------------------------------------------------------------------------------------------------------


def vit(**changes) -> nn.Module:
    return hf.ViTModel(hf.ViTConfig(**{**VIT, 'image_size': 64, **changes})).eval().requires_grad_(False)


@pytest.mark.parametrize('name', [
    'ViTModel', 'Dinov2Model', 'CLIPModel', 'SiglipVisionModel', 'SamModel', 'BeitModel', 'DPTForSemanticSegmentation'])
def test_the_base_resolution_is_that_of_the_position_table(name):
    assert convert_patch_embed(stock_model(name), check=False).base_resolution == FAMILIES[name].size


@pytest.mark.parametrize('name', ['DINOv3ViTModel', 'SegformerForSemanticSegmentation', 'SwinModel'])
def test_models_without_a_position_table_need_the_base_resolution(name):
    with pytest.raises(InputError, match=r'does not say at which resolution.*give base_resolution='):
        convert_patch_embed(stock_model(name))


@pytest.mark.parametrize(('build', 'sentence'), [
    (vit, r'ViTModel takes images of 64 x 64 px, and not of.* 128 x 128 px \(ValueError: Input image size \(128\*128\).*'
          r'give base_resolution=\(64, 64\).*check=False.*interpolate_pos_encoding=True'),
    (sam, r'SamModel takes images of 64 x 64 px, .*or build the model for 128 x 128 px$'),
    (FAMILIES['CLIPModel'].build, r'CLIPModel\.vision_model takes images of 64 x 64 px')])
def test_a_host_for_another_size_is_refused_with_what_to_set(build, sentence):
    model = build().eval()
    with pytest.raises(InputError, match=sentence):
        convert_patch_embed(model, 128)
    assert not any(isinstance(module, MultiScalePatchEmbed) for module in model.modules())


def test_the_host_resamples_its_position_table_to_another_base_resolution():
    stock = vit()
    model = copy.deepcopy(stock)
    convert_patch_embed(model, (128, 96), check=False)
    expected = stock(image((128, 96)), interpolate_pos_encoding=True).last_hidden_state
    assert torch.equal(model(image((128, 96)), interpolate_pos_encoding=True).last_hidden_state, expected)
    assert model(image((64, 48)), interpolate_pos_encoding=True).last_hidden_state.shape == expected.shape


def test_another_token_grid_has_the_positions_that_the_host_has_there():
    stock = hf.Dinov2Model(dinov2()).eval().requires_grad_(False)
    model = copy.deepcopy(stock)
    layer = convert_patch_embed(model)
    with layer.force_grid((2, 3)):
        found = model(image((56, 84))).last_hidden_state
        assert torch.equal(model(image((28, 42))).last_hidden_state, stock(image((28, 42))).last_hidden_state)
    assert found.shape == (2, 1 + 6, 32)


def test_the_stock_embedding_shows_the_host_the_image_itself():
    """The baseline: a host that resamples its position table gives what it gave before."""
    stock = hf.Dinov2Model(dinov2()).eval().requires_grad_(False)
    model = copy.deepcopy(stock)
    convert_patch_embed(model, kernel_policy='constant')
    for size in [(28, 42), (56, 56), (50, 61)]:
        assert torch.equal(model(image(size)).last_hidden_state, stock(image(size)).last_hidden_state)


# -- How hosts are called ----------------------------------------------------------------------------------------------


def test_images_by_position_by_keyword_and_to_an_inner_model_give_the_same():
    model, half = converted('ViTForImageClassification'), image((32, 48))
    expected = model(half).logits
    assert torch.equal(model(pixel_values=half).logits, expected)
    assert torch.equal(model.classifier(model.vit(half).last_hidden_state[:, 0]), expected)
    assert 'pixel_values' in inspect.signature(model.forward).parameters    # Trainer selects columns of a data set by it


def test_clip_embeds_images_without_text():
    model, half = converted('CLIPModel'), image((32, 32))
    features = model.get_image_features(half).pooler_output
    expected = outputs(model, 'CLIPModel', half)
    assert any(torch.allclose(features / features.norm(dim=-1, keepdim=True), tensor, atol=1e-6)
               for tensor in expected if tensor.shape == features.shape)


def test_a_copy_embeds_by_its_own_kernels():
    model, half = converted('ViTModel'), image((32, 48))
    before = model(half).last_hidden_state
    twin = copy.deepcopy(model)
    randomize(find_patch_embed(twin).kernels)
    assert torch.equal(model(half).last_hidden_state, before)
    assert not torch.equal(twin(half).last_hidden_state, before)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ViTModel', 'Dinov2Model'])
def test_an_exported_model_embeds_at_its_resolution(name):
    model, half = converted(name), image(at(name, 1 / 2))
    found = torch.export.export(model, (half, )).module()(half).last_hidden_state
    assert relative_error(found, model(half).last_hidden_state) < 1e-5


def test_a_pickled_model_still_takes_any_size():
    model, half = converted('Dinov2Model'), image((28, 28))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(half).last_hidden_state, model(half).last_hidden_state)


def test_an_error_in_the_host_leaves_nothing_behind():
    model, half = converted('ViTModel'), image((32, 48))
    expected = model(half).last_hidden_state
    with pytest.raises(AttributeError, match='NoneType'):    # the model has no mask token
        model(half, bool_masked_pos=torch.ones(2, 24))
    base = image((64, 96))
    assert torch.equal(model(base).last_hidden_state, stock_model('ViTModel')(base).last_hidden_state)
    assert torch.equal(model(half).last_hidden_state, expected)


@pytest.mark.parametrize('name', ['Dinov2Model', 'DINOv3ViTModel', 'CLIPVisionModel'])
def test_hosts_that_cast_images_to_their_dtype_still_do(name):
    model = converted(name).bfloat16()
    for share in (1, 1 / 2):
        assert outputs(model, name, image(at(name, share)))[0].dtype == torch.bfloat16


def test_the_layers_parameters_are_those_of_the_convolution():
    model = stock_model('SiglipVisionModel')
    conv = model.embeddings.patch_embedding
    layer = convert_patch_embed(model)
    assert model.embeddings.patch_embedding is layer
    assert layer.base.weight is layer.weight is conv.weight
    assert {name for name, _ in layer.named_parameters() if 'kernels' not in name} == {'weight', 'bias'}
    layer.double()
    assert layer.base.weight is layer.weight
    assert layer.base.weight.dtype == torch.float64
    assert torch.equal(layer.sharing_base(kernel_sizes=(8, 16)).base.weight, layer.weight)


# -- Hosts of other libraries, and what is refused ---------------------------------------------------------------------


class Tokens(nn.Module):
    """An embedding with the convolution beside the class token and the position table."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Embedding(17, 8)
        self.ln = nn.LayerNorm(8)

    def forward(self, x):
        tokens = torch.cat([self.token.expand(len(x), 1, 8), self.conv(x).flatten(2).transpose(1, 2)], 1)
        return self.ln(tokens + self.positions.weight)


def test_a_convolution_beside_tables_is_converted_in_any_host():
    model = nn.Sequential(Tokens(), nn.Linear(8, 4))
    stock, base = copy.deepcopy(model), image((64, 64))
    layer = convert_patch_embed(model, 64)
    assert model[0].conv is layer
    assert torch.equal(model(base), stock(base))
    assert model(image((16, 24))).shape == (2, 17, 4)


@pytest.mark.parametrize(('build', 'sentence'), [
    (lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])),
     r'ResNetModel cannot.*embedder\.embedder\.convolution, has normalization beside it.*not for CNNs'),
    (lambda: hf.ConvNextModel(hf.ConvNextConfig(hidden_sizes=[8], depths=[1], num_stages=1)),
     r'ConvNextModel cannot.*embeddings\.patch_embeddings, has layernorm beside it'),
    (lambda: hf.LevitModel(hf.LevitConfig()), r'LevitModel cannot.*embedding_layer_1\.convolution, has batch_norm'),
    (lambda: hf.DPTModel(hf.DPTConfig(**VIT, is_hybrid=True, backbone_out_indices=(0, 1), neck_hidden_sizes=(8, 8))),
     r'DPTModel cannot.*embeddings\.backbone\.bit\.embedder\.convolution, has norm beside it'),
    (lambda: hf.Siglip2VisionModel(hf.Siglip2VisionConfig(**VIT)), 'Siglip2VisionModel cannot.*no convolution'),
    (lambda: converted('SwinModel'), 'SwinModel has an MSPE patch embedding already')])
def test_what_cannot_be_converted_is_refused_with_the_reason(build, sentence):
    with pytest.raises(InputError, match=sentence):
        convert_patch_embed(build(), 64)
