"""MSPEViTDet against ViTDet, written from the formulas."""
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from det_helpers import PlainPatchEmbed, mask_rcnn, tiny_backbone
from mmdet.registry import MODELS
from mmengine.utils import digit_version

from mspe_mm import InputError
from mspe_mm.core import pi_resize
from mspe_mm.det import MSPELN2d, MSPEViTDet


def backbone(**changes):
    cfg = dict(
        img_size=64, patch_size=8, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2, use_rel_pos=True, window_size=3,
        window_block_indexes=(0, 2), pretrain_img_size=40, rel_pos_zero_init=False, kernel_sizes=(2, 4, 8))
    model = MSPEViTDet(**{**cfg, **changes})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'kernels' not in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    model.patch_embed.reset_kernels()
    return model.eval()


def resampled(table, length):
    """A relative table of an axis for another number of tokens, by linear interpolation between pixel centres."""
    n, m = len(table), 2 * length - 1
    rows = []
    for i in range(m):
        position = min(max((i + 0.5) * n / m - 0.5, 0), n - 1)
        low = int(position)
        high = min(low + 1, n - 1)
        rows.append(table[low] * (1 - (position - low)) + table[high] * (position - low))
    return torch.stack(rows)


def naive_attention(x, weights, heads):
    """Attention on one grid (H, W, C), every pair of tokens by itself."""
    height, width, channels = x.shape
    cells = list(itertools.product(range(height), range(width)))
    d = channels // heads
    qkv = x.reshape(-1, channels) @ weights['qkv.weight'].T + weights['qkv.bias']
    q, k, v = (qkv[:, i * channels:(i + 1) * channels] for i in range(3))
    outs = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        logits = q[:, part] @ k[:, part].T / math.sqrt(d)
        if 'rel_pos_h' in weights:
            rows, columns = resampled(weights['rel_pos_h'], height), resampled(weights['rel_pos_w'], width)
            relative = torch.zeros_like(logits)
            for i, (y, c) in enumerate(cells):
                tables = [rows[y - y2 + height - 1] + columns[c - c2 + width - 1] for y2, c2 in cells]
                relative[i] = torch.stack(tables) @ q[i, part]
            logits = logits + relative
        outs.append(logits.softmax(-1) @ v[:, part])
    out = torch.cat(outs, -1) @ weights['proj.weight'].T + weights['proj.bias']
    return out.view(height, width, channels)


def naive_vitdet(model, image, patch, heads=3, window_size=3, windowed=(0, 2)):
    """The whole backbone on one image (C, H, W) whose patches are ``patch`` (height, width) px, from the parameters."""
    weights = model.state_dict()
    kernel = pi_resize(weights['patch_embed.proj.weight'], patch)
    rows, columns = (-(-length // k) for length, k in zip(image.shape[1:], patch))
    padded = F.pad(image, (0, columns * patch[1] - image.shape[2], 0, rows * patch[0] - image.shape[1]))
    x = torch.stack([
        torch.stack([(kernel * padded[:, y * patch[0]:(y + 1) * patch[0], c * patch[1]:(c + 1) * patch[1]]).sum((1, 2, 3))
                     for c in range(columns)]) for y in range(rows)]) + weights['patch_embed.proj.bias']
    table = weights['pos_embed'][0, 1:]
    side = math.isqrt(len(table))
    table = table.view(side, side, -1).permute(2, 0, 1)[None]
    x = x + F.interpolate(table, (rows, columns), mode='bicubic')[0].permute(1, 2, 0)
    for i in range(len(model.blocks)):
        block = {name[len(f'blocks.{i}.'):]: value for name, value in weights.items() if name.startswith(f'blocks.{i}.')}
        attention = {name[5:]: value for name, value in block.items() if name.startswith('attn.')}
        normed = F.layer_norm(x, x.shape[-1:], block['norm1.weight'], block['norm1.bias'], 1e-6)
        if i in windowed:
            height, width = (-(-length // window_size) * window_size for length in (rows, columns))
            normed = F.pad(normed, (0, 0, 0, width - columns, 0, height - rows))
            out = torch.zeros_like(normed)
            for y, c in itertools.product(range(0, height, window_size), range(0, width, window_size)):
                cut = (slice(y, y + window_size), slice(c, c + window_size))
                out[cut] = naive_attention(normed[cut], attention, heads)
            out = out[:rows, :columns]
        else:
            out = naive_attention(normed, attention, heads)
        x = x + out
        hidden = F.layer_norm(x, x.shape[-1:], block['norm2.weight'], block['norm2.bias'], 1e-6)
        hidden = F.gelu(hidden @ block['mlp.fc1.weight'].T + block['mlp.fc1.bias'])
        x = x + hidden @ block['mlp.fc2.weight'].T + block['mlp.fc2.bias']
    return x.permute(2, 0, 1)


@pytest.mark.parametrize('attention', ['fused', 'naive'])
@pytest.mark.parametrize(('changes', 'size', 'patch'), [
    pytest.param({}, (64, 64), (8, 8), id='base resolution, windows do not fit the grid'),
    pytest.param({}, (128, 64), (16, 8), id='fixed grid, taller than the base'),
    pytest.param(dict(img_size=(48, 32)), (48, 32), (8, 8), id='non-square base'),
    pytest.param(dict(kernel_policy='constant'), (24, 40), (8, 8), id='other grid, relative tables resized'),
    pytest.param(dict(kernel_policy='constant'), (70, 80), (8, 8), id='larger grid, image that is no whole patches'),
    pytest.param(dict(kernel_policy='isotropic'), (96, 64), (8, 8), id='isotropic, non-square grid'),
    pytest.param(dict(use_rel_pos=False), (64, 64), (8, 8), id='without relative positions'),
])
@torch.no_grad()
def test_equals_the_naive_implementation(changes, size, patch, attention):
    model = backbone(attention=attention, **changes)
    images = torch.randn(2, 3, *size)
    (out, ) = model(images)
    expected = torch.stack([naive_vitdet(model, image, patch) for image in images])
    assert out.shape == expected.shape
    assert (out - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@torch.no_grad()
def test_without_windows():
    model = backbone(window_block_indexes=())
    image = torch.randn(1, 3, 64, 64)
    assert (model(image)[0][0] - naive_vitdet(model, image[0], (8, 8), windowed=())).abs().max() < 1e-5


@torch.no_grad()
def test_what_fills_up_the_windows_takes_part():
    """Leaving it out of the softmax would be another network than the published one."""
    model, image = backbone(), torch.randn(1, 3, 64, 64)
    whole = backbone(window_size=8)
    state = {name: value for name, value in model.state_dict().items() if 'rel_pos' not in name}
    whole.load_state_dict(state, strict=False)
    assert (model(image)[0] - whole(image)[0]).abs().max() > 1e-3


@torch.no_grad()
def test_base_resolution_is_bit_exact():
    model, images = backbone(), torch.randn(2, 3, 64, 64)
    expected = model(images)[0]
    model.patch_embed = PlainPatchEmbed(model.patch_embed.proj)
    assert torch.equal(model(images)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize(('patch_size', 'quarters'), [(32, (8, 16, 24, 32)), (14, (4, 7, 11, 14))])
def test_kernel_sizes_are_quarters_of_any_patch_size(patch_size, quarters):
    model = MSPEViTDet(img_size=2 * patch_size, patch_size=patch_size, embed_dim=16, depth=1, num_heads=2).eval()
    assert model.patch_embed.kernel_sizes == quarters
    assert model(torch.randn(1, 3, patch_size, patch_size))[0].shape == (1, 16, 2, 2)


def test_token_grid_is_fixed():
    model = backbone()
    for size in (16, 32, 48, 64, 96, 128):
        assert model(torch.randn(1, 3, size, size))[0].shape == (1, 12, 8, 8)


@pytest.mark.parametrize('attention', ['fused', 'naive'])
def test_checkpointed_blocks_give_the_same_gradients(attention):
    images, gradients = torch.randn(1, 3, 32, 32), []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = backbone(attention=attention, with_cp=with_cp).train()
        model(images)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) > 20
    for with_cp, without in zip(*gradients):
        assert torch.equal(with_cp, without)


def test_gradients_of_fused_and_naive_attention_agree():
    images = torch.randn(1, 3, 48, 48, dtype=torch.float64)
    model = backbone().double()
    found = []
    for attention in ('fused', 'naive'):
        for block in model.blocks:
            block.attn.attention = attention
        parameters = [p for p in model.parameters() if p.requires_grad]
        found.append(torch.autograd.grad(model(images)[0].square().sum(), parameters, allow_unused=True))
    assert sum(g is not None for g in found[0]) > 20
    for fused, naive in zip(*found):
        assert (fused is None) == (naive is None)
        if fused is not None:
            torch.testing.assert_close(fused, naive, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_tables_are_gathered_once_per_grid_in_evaluation():
    model = backbone()
    attention = model.blocks[1].attn
    first = attention.relative((8, 8))
    model(torch.randn(1, 3, 64, 64))
    assert attention.relative((8, 8)) is first
    assert model.positions((8, 8)) is model.positions((8, 8))
    expected = model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)))[0]
    for parameter in (attention.rel_pos_h, model.pos_embed):
        parameter.data.mul_(2)
    changed = model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)))[0]
    assert (changed - expected).abs().max() > 1e-3


@pytest.mark.skipif(digit_version(torch.__version__) < digit_version('2.2'),
                    reason='torch.compile of PyTorch 2.1 cannot trace functools.lru_cache')
@pytest.mark.parametrize(('grad', 'smaller'), [(False, (32, 32)), (True, (32, 64))])
@pytest.mark.slow
def test_compiles_without_graph_breaks(grad, smaller):
    model = backbone(window_block_indexes=(0, ), depth=2)
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    with torch.set_grad_enabled(grad):
        for size in ((64, 64), smaller, (64, 48)):    # PyTorch takes lengths that changed once for symbolic
            images = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(images)[0], model(images)[0])
    torch._dynamo.reset()


class TestPretrained:

    def mae(self, tmp_path, **wrap):
        """A file in MAE's format: a class token, a final norm, no relative positions."""
        torch.manual_seed(5)
        donor = backbone(use_rel_pos=False, kernel_sizes=(8, ))
        state = {**donor.state_dict(), 'cls_token': torch.zeros(1, 1, 12), 'norm.weight': torch.ones(12)}
        path = tmp_path / 'mae.pth'
        torch.save({'model': state, **wrap}, path)
        return path, state

    def test_mae_file(self, tmp_path):
        path, state = self.mae(tmp_path)
        model = MODELS.build(dict(
            type='MSPEViTDet', img_size=64, patch_size=8, embed_dim=12, depth=3, num_heads=3, mlp_ratio=2,
            use_rel_pos=True, pretrain_img_size=40, kernel_sizes=(4, 8), parameterization='native',
            init_cfg=dict(type='Pretrained', checkpoint=str(path))))
        model.init_weights()
        own = model.state_dict()
        loaded = [name for name in state if name in own]
        assert len(loaded) == len(state) - 2
        for name in loaded:
            assert torch.equal(own[name], state[name])
        assert torch.equal(own['patch_embed.kernels.4.weight'], pi_resize(state['patch_embed.proj.weight'], (4, 4)))
        assert not own['blocks.0.attn.rel_pos_h'].any()

    def test_prefix(self, tmp_path):
        path = tmp_path / 'detector.pth'
        state = backbone().state_dict()
        torch.save({'state_dict': {f'backbone.{name}': value for name, value in state.items()}}, path)
        model = backbone()
        model.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
        model.init_weights()
        for name, value in model.state_dict().items():
            assert torch.equal(value, state[name])

    def test_inside_a_detector(self, tmp_path):
        path = tmp_path / 'tiny.pth'
        state = MODELS.build(tiny_backbone()).state_dict()
        torch.save({'model': {name: value for name, value in state.items() if 'rel_pos' not in name}}, path)
        model = MODELS.build(mask_rcnn(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=str(path)))))
        model.init_weights()
        for name, value in model.backbone.state_dict().items():
            assert torch.equal(value, state[name])

    def test_missing_file(self):
        model = backbone(init_cfg=dict(type='Pretrained', checkpoint='mae_pretrain_vit_base.pth'))
        with pytest.raises(InputError, match=r'checkpoint mae_pretrain_vit_base.pth does not exist'):
            model.init_weights()

    def test_other_model(self, tmp_path):
        path = tmp_path / 'resnet.pth'
        torch.save({'layer1.conv1.weight': torch.zeros(3)}, path)
        model = backbone(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
        with pytest.raises(InputError, match='has no weights of MSPEViTDet'):
            model.init_weights()

    def test_other_width(self, tmp_path):
        path, _ = self.mae(tmp_path)
        model = backbone(embed_dim=24, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
        with pytest.raises(InputError, match=r'pos_embed is \(1, 26, 12\) there and \(1, 26, 24\) in the config'):
            model.init_weights()


@pytest.mark.parametrize(('changes', 'sentence'), [
    (dict(img_size=100), 'img_size must be whole patches of 8 px'),
    (dict(embed_dim=10), 'embed_dim must divide into num_heads=3'),
    (dict(attention='flash'), 'unknown attention'),
    (dict(kernel_sizes=(2, 4)), 'kernel_sizes must include the patch size 8'),
])
def test_contradictory_settings(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        backbone(**changes)


def test_channel_layer_norm():
    norm = MSPELN2d(5, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 3, 4)
    mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    expected = (x - mean) / (variance + 1e-3).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_neck_levels():
    neck = MODELS.build(dict(
        type='MSPESimpleFPN', backbone_channel=16, in_channels=[4, 8, 16, 16], out_channels=8, num_outs=6,
        norm_cfg=dict(type='MSPELN2d')))
    x = torch.randn(2, 16, 8, 6)
    outs = neck((torch.zeros(1), x))
    assert [tuple(out.shape[1:]) for out in outs] == [(8, 32, 24), (8, 16, 12), (8, 8, 6), (8, 4, 3), (8, 2, 2), (8, 1, 1)]
    assert torch.equal(neck(x)[2], outs[2])
    assert torch.equal(outs[4], outs[3][:, :, ::2, ::2])


def test_neck_of_other_channels():
    with pytest.raises(ValueError, match=r'in_channels must be \[4, 8, 16, 16\]'):
        MODELS.build(dict(
            type='MSPESimpleFPN', backbone_channel=16, in_channels=[16, 16, 16, 16], out_channels=8, num_outs=5))
