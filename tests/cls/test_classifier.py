"""timm's classifiers under mmengine: the host's numbers, the host's checkpoints, and only the kernels train."""
import dataclasses

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import noise, randomize, relative_error
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from timm.data import resolve_model_data_config
from timm.models.mvitv2 import model_cfgs

import mspe_mm.cls  # noqa: F401
from mspe_mm.cls.classifier import create_timm_model
from mspe_mm.errors import InputError
from mspe_mm.layers.downsampling import Downsampling
from mspe_mm.models.checkpoint import named_for
from mspe_mm.models.find import find_patch_embed

TINY = dict(img_size=64, embed_dim=32, depth=2, num_heads=2, num_classes=5)

# The families of docs/models.md: arguments of a tiny one, and its base resolution.
VIT14 = dict(TINY, img_size=56)
FAMILIES = {
    'vit_tiny_patch16_224': (TINY, 64),
    'pvt_v2_b0': (dict(embed_dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), num_classes=5), 224),
    'swin_tiny_patch4_window7_224': (dict(img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(1, 2),
                                          num_classes=5), 32),
    'mvitv2_tiny': (dict(img_size=64, num_classes=5), 64),
    'eva02_tiny_patch14_224': (VIT14, 56),
    'vit_small_patch14_dinov2': (VIT14, 56),
    'deit3_small_patch16_224': (TINY, 64),
    'flexivit_small': (TINY, 64),
    'beitv2_base_patch16_224': (TINY, 64),
}


@pytest.fixture(params=FAMILIES)
def family(request, monkeypatch):
    """A stock model in eval mode, the classifier with its weights, and the base resolution."""
    small = dict(depths=(1, 1, 1, 1), embed_dim=(16, 32, 32, 32), num_heads=(1, 2, 2, 2))
    monkeypatch.setitem(model_cfgs, 'mvitv2_tiny', dataclasses.replace(model_cfgs['mvitv2_tiny'], **small))
    kwargs, base = FAMILIES[request.param]
    host = randomize(timm.create_model(request.param, **kwargs)).eval()
    model = MODELS.build(dict(type='MSPEClassifier', timm_name=request.param, model_kwargs=kwargs, tuning=dict()))
    model.load_state_dict(named_for(model, host.state_dict()), strict=True)
    return host, model, base


def stock(name='vit_tiny_patch16_224', **changes):
    return randomize(timm.create_model(name, **{**TINY, **changes})).eval()


def mspe(name='vit_tiny_patch16_224', **changes):
    return MODELS.build({**dict(type='MSPEClassifier', timm_name=name, model_kwargs=TINY), **changes})


def samples(*labels):
    return [BaseDataElement(gt_label=label) for label in labels]


@pytest.mark.parametrize('size', [(16, 16), (24, 40), (64, 64), (100, 64), (128, 128)])
def test_the_token_grid_never_changes(size):
    model = mspe().eval()
    grids = []
    model.backbone.blocks[0].register_forward_hook(lambda module, args, out: grids.append(args[0].shape[1]))
    with torch.no_grad():
        assert model(noise(1, 3, *size, dtype=torch.float32)).shape == (1, 5)
    assert grids == [16 + 1]


def test_every_family_classifies_as_timm_does_and_at_half_the_resolution(family):
    """With timm's checkpoint, loaded by ``strict=True``. The rest is tests/models/test_convert.py's."""
    host, model, base = family
    assert model.mspe_layer.base_resolution == (base, base)
    small = noise(2, 3, base // 2, base // 2, dtype=torch.float32)
    whole = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        expected = host(whole)
        assert torch.equal(model.eval()(whole), expected)
        # What areas shrink without loss gives the same.
        model.mspe_layer.downsampling = Downsampling('area')
        assert relative_error(model(small), expected) < 1e-4


def test_every_family_is_tuned_by_its_kernels_alone(family):
    _, model, base = family
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses = model(noise(2, 3, base, base, dtype=torch.float32), samples(0, 1), 'loss')
    assert set(losses) == {f'k{k}.loss' for k in model.mspe_layer.kernels}
    sum(losses.values()).backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if '.kernels.' in name}


@pytest.mark.parametrize(('name', 'size', 'tokens'), [
    ('vit_tiny_patch16_224', (32, 48), (2, 3)), ('eva02_tiny_patch14_224', (28, 42), (2, 3)),
    ('swin_tiny_patch4_window7_224', (24, 32), (6, 8))])
def test_the_stock_patch_size_gives_other_grids_where_timms_model_can_have_them(name, size, tokens):
    """The baselines need it, though timm's models are made strict."""
    model = MODELS.build(dict(type='MSPEClassifier', timm_name=name, patch_embed=dict(kernel_policy='constant'),
                              model_kwargs=FAMILIES[name][0])).eval()
    assert model.mspe_layer.token_grid(size) == tokens
    assert model(noise(1, 3, *size, dtype=torch.float32)).shape == (1, 5)


def test_mean_and_deviation_are_the_models_own():
    model = mspe('vit_tiny_patch16_224')
    config = resolve_model_data_config(timm.create_model('vit_tiny_patch16_224'))
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=[image], data_samples=samples(0)))['inputs']
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ('mean', 'std'))
    torch.testing.assert_close(inputs[0], (image / 255 - mean) / std, rtol=0, atol=1e-6)


def test_loss_and_scores_are_those_of_the_logits():
    model = MODELS.build(dict(type='TimmClassifier', timm_name='vit_tiny_patch16_224', model_kwargs=TINY)).eval()
    images = noise(3, 3, 64, 64, dtype=torch.float32)
    logits = model(images)
    torch.testing.assert_close(model(images, samples(0, 4, 2), 'loss')['loss'],
                               F.cross_entropy(logits, torch.tensor([0, 4, 2])))
    for sample, row in zip(model(images, samples(0, 4, 2), 'predict'), logits):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))


def test_tuning_has_a_loss_for_every_kernel_and_moves_nothing_else():
    model = mspe(model_kwargs=dict(TINY, drop_rate=0.5, drop_path_rate=0.5), tuning=dict())
    randomize(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    assert [name for name, module in model.named_modules() if module.training and name.count('.') < 2] == [
        '', 'backbone.patch_embed']
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = model(noise(4, 3, 64, 64, dtype=torch.float32), samples(0, 1, 2, 3), 'loss')
    assert set(losses) == {'k4.loss', 'k8.loss', 'k12.loss'}
    sum(losses.values()).backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f'backbone.patch_embed.kernels.{k}.{part}' for k in (4, 8, 12) for part in ('weight', 'bias')}


@pytest.mark.parametrize('tune_base', [False, True])
def test_both_objectives_are_the_cross_entropy_and_the_distance_in_one_forward_pass(tune_base):
    state, found, passes = randomize(mspe(patch_embed=dict(tune_base=tune_base))).state_dict(), {}, {}
    for objective in ('task', 'distill', 'both'):
        model, seen = mspe(patch_embed=dict(tune_base=tune_base), tuning=dict(objective=objective)).train(), []
        model.load_state_dict(state)
        model.backbone.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.manual_seed(0)
        found[objective] = model(noise(4, 3, 64, 64, dtype=torch.float32), samples(0, 1, 2, 3), 'loss')
        passes[objective] = len(seen)
    names = ['k4', 'k8', 'k12', *(['k16', 'base'] if tune_base else [])]
    assert passes == dict(task=len(names), distill=len(names) + 1, both=len(names) + 1)
    assert list(found['distill']) == [f'{name}.loss_distill' for name in names]
    assert found['both'].keys() == found['task'].keys() | found['distill'].keys()
    for name, value in {**found['task'], **found['distill']}.items():
        torch.testing.assert_close(found['both'][name], value)


def test_the_teacher_is_the_stock_model_at_the_base_resolution():
    host, model = stock(), mspe(patch_embed=dict(tune_base=True), tuning=dict(objective='distill'))
    model.load_state_dict(named_for(model, host.state_dict()))
    model.train().backbone.patch_embed.kernels['16'].weight.data.add_(noise(32, 3, 16, 16, dtype=torch.float32))
    images = noise(4, 3, 64, 64, dtype=torch.float32)
    losses = model(images, samples(0, 1, 2, 3), 'loss')
    with torch.no_grad():
        p, q = host(images).softmax(1), model(images).softmax(1)
    torch.testing.assert_close(losses['base.loss_distill'], (p * (p / q).log()).sum(1).mean(), rtol=1e-4, atol=1e-6)
    assert losses['base.loss_distill'] > 1e-4    # 100 times the tolerance


def test_without_labels_there_is_a_distance_alone():
    images, unlabelled = noise(2, 3, 64, 64, dtype=torch.float32), [BaseDataElement(), BaseDataElement()]
    losses = mspe(tuning=dict(objective='distill')).train()(images, unlabelled, 'loss')
    assert list(losses) == ['k4.loss_distill', 'k8.loss_distill', 'k12.loss_distill']
    for objective in ('task', 'both'):
        with pytest.raises(InputError, match=r"no annotations.*set tuning.objective='distill'"):
            mspe(tuning=dict(objective=objective)).train()(images, unlabelled, 'loss')


def test_without_tuning_everything_trains():
    assert all(parameter.requires_grad for parameter in mspe().parameters())


def test_all_of_a_plain_model_trains_at_several_resolutions():
    """ResFormer's training: stock patches, and tokens that follow the image."""
    model = MODELS.build(dict(type='TimmClassifier', timm_name='vit_tiny_patch16_224', model_kwargs=TINY,
                              resolutions=[32, (64, 48)]))
    counts = []
    model.backbone.blocks[0].register_forward_hook(lambda module, args, out: counts.append(args[0].shape[1]))
    losses = model(noise(2, 3, 64, 64, dtype=torch.float32), samples(0, 1), 'loss')
    assert set(losses) == {'r32x32.loss', 'r64x48.loss'}
    assert counts == [1 + 4, 1 + 12]
    with pytest.raises(InputError, match='give one of them'):
        mspe(tuning=dict(), resolutions=[32])


def test_mmengine_does_not_draw_the_weights_anew():
    model = mspe()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_checkpoints_are_loaded_by_timm(tmp_path, suffix):
    host, path = stock(), tmp_path / f'weights{suffix}'
    if suffix == '.pth':
        torch.save(host.state_dict(), path)
    else:
        from safetensors.torch import save_file
        save_file(host.state_dict(), path)
    model = mspe(checkpoint=str(path), patch_embed=dict(parameterization='native')).eval()
    images = noise(2, 3, 64, 64, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(model(images), host(images))
    assert not find_patch_embed(model).is_tuned()    # kernels start from the loaded weights


def test_an_unknown_name_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"has no model 'vit_tinny_patch16_224': did you mean 'vit_tiny_patch16_224'\?"):
        create_timm_model('vit_tinny_patch16_224')


def test_weights_with_another_head_are_refused(tmp_path):
    torch.save(stock(num_classes=7).state_dict(), tmp_path / 'seven.pth')
    with pytest.raises(InputError, match=r'timm cannot make vit_tiny_patch16_224 with the weights of .*seven\.pth: .*head'):
        create_timm_model('vit_tiny_patch16_224', checkpoint=str(tmp_path / 'seven.pth'), **TINY)


@pytest.mark.parametrize(('name', 'changes', 'message'), [
    ('resnet18', dict(img_size=None, embed_dim=None, depth=None, num_heads=None), 'ResNet cannot be converted'),
    ('vit_tiny_patch16_224', dict(img_size=72), 'must be whole patches of 16 px'),
])
def test_what_cannot_be_converted_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='MSPEClassifier', timm_name=name, model_kwargs={**TINY, **changes}))


def big_vision_arrays(host):
    """The weights of a timm flexivit as big_vision's .npz has them, inverted from the published format."""
    weights = {name: value.numpy() for name, value in host.state_dict().items()}
    dim, heads = host.embed_dim, host.blocks[0].attn.num_heads
    arrays = {
        'params/embedding/kernel': weights['patch_embed.proj.weight'].transpose(2, 3, 1, 0),
        'params/embedding/bias': weights['patch_embed.proj.bias'],
        'params/cls': weights['cls_token'],
        'params/pos_embedding': weights['pos_embed'],
        'params/Transformer/encoder_norm/scale': weights['norm.weight'],
        'params/Transformer/encoder_norm/bias': weights['norm.bias'],
        'params/head/kernel': weights['head.weight'].T,
        'params/head/bias': weights['head.bias'],
    }
    for i in range(len(host.blocks)):
        block, ours = f'params/Transformer/encoderblock_{i}', f'blocks.{i}'
        attention = f'{block}/MultiHeadDotProductAttention_0'
        for ln, norm in (('LayerNorm_0', 'norm1'), ('LayerNorm_1', 'norm2')):
            arrays[f'{block}/{ln}/scale'] = weights[f'{ours}.{norm}.weight']
            arrays[f'{block}/{ln}/bias'] = weights[f'{ours}.{norm}.bias']
        for part, weight, bias in zip(('query', 'key', 'value'), np.split(weights[f'{ours}.attn.qkv.weight'], 3),
                                      np.split(weights[f'{ours}.attn.qkv.bias'], 3)):
            arrays[f'{attention}/{part}/kernel'] = weight.T.reshape(dim, heads, -1)
            arrays[f'{attention}/{part}/bias'] = bias.reshape(heads, -1)
        arrays[f'{attention}/out/kernel'] = weights[f'{ours}.attn.proj.weight'].T.reshape(heads, -1, dim)
        arrays[f'{attention}/out/bias'] = weights[f'{ours}.attn.proj.bias']
        for j in (0, 1):
            arrays[f'{block}/MlpBlock_0/Dense_{j}/kernel'] = weights[f'{ours}.mlp.fc{j + 1}.weight'].T
            arrays[f'{block}/MlpBlock_0/Dense_{j}/bias'] = weights[f'{ours}.mlp.fc{j + 1}.bias']
    return arrays


def test_published_flexivit_weights_load_by_timm(tmp_path):
    host = stock('flexivit_small')
    np.savez(tmp_path / 'flexivit.npz', **big_vision_arrays(host))
    model = mspe('flexivit_small', checkpoint=str(tmp_path / 'flexivit.npz')).eval()
    images = noise(2, 3, 64, 64, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(model(images), host(images))


@pytest.mark.parametrize('grid', [(4, 4), (8, 8), (2, 2), (16, 8)])
def test_a_token_grid_of_flexivit_is_timms_own_patch_size(grid):
    """Weights at random, as the published ones cannot be had here; at the base grid equal bit for bit."""
    host, model = stock('flexivit_small'), mspe('flexivit_small',
                                                patch_embed=dict(kernel_sizes=(16, ), interpolation='bicubic'))
    model.load_state_dict(named_for(model, host.state_dict()))
    images = noise(2, 3, 64, 64, dtype=torch.float32)
    with torch.no_grad(), find_patch_embed(model).force_grid(grid):
        ours = model.eval()(images)
    host.set_input_size(patch_size=(64 // grid[0], 64 // grid[1]))
    with torch.no_grad():
        if grid == (4, 4):
            assert torch.equal(ours, host(images))
        torch.testing.assert_close(ours, host(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('freeze', [True, False])
def test_random_token_grids_train_the_kernels_or_everything(freeze):
    model = mspe(tuning=dict(token_grids=[8, 16], freeze=freeze), model_kwargs=dict(TINY, drop_rate=0.1))
    model.train()
    assert model.backbone.head_drop.training is not freeze
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    kernels = {name for name, _ in model.named_parameters() if '.kernels.' in name}
    assert trained == (kernels if freeze else {name for name, _ in model.named_parameters()})
    (name, ) = model(noise(2, 3, 64, 64, dtype=torch.float32), samples(0, 1), 'loss')
    assert name in ('g8x8.loss', 'g16x16.loss')
