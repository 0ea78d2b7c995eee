"""Position encodings of MSPEViT against the naive sum and the report's formula, in float64."""
import math

import pytest
import torch
from helpers import noise, randomize
from mmseg.models.backbones import VisionTransformer
from torch import nn

from mspe_mm.seg import MSPEViT

BASE, GRID = (64, 96), (4, 6)
SETTINGS = dict(img_size=BASE, patch_size=16, embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1))
RELATIVE = dict(position='relative', with_cls_token=False)
SIZES = [(64, 96), (32, 48), (48, 160), (80, 64)]    # the last two by the stock patches: grids of 3 x 10 and 5 x 4


def build(**changes):
    return randomize(MSPEViT(**{**SETTINGS, **changes}).double()).eval().requires_grad_(False)


def policy(size):
    return 'fixed' if size in SIZES[:2] else 'constant'


class NaiveRelativeAttention(nn.Module):
    """RIViT's sum as written, over every pair of tokens."""

    def __init__(self, module, grid):
        super().__init__()
        self.module, self.grid = module, grid

    def forward(self, query, identity):
        module, mha, (height, width) = self.module, self.module.attn, self.grid
        heads, d = mha.num_heads, mha.embed_dim // mha.num_heads
        tokens = [(y, x) for y in range(height) for x in range(width)]
        qkv = query @ mha.in_proj_weight.T + mha.in_proj_bias
        out = torch.zeros_like(query)
        for head in range(heads):
            q, k, v = (qkv[..., part * heads * d + head * d:][..., :d] for part in range(3))
            for i, (y, x) in enumerate(tokens):
                logits = []
                for j, (other_y, other_x) in enumerate(tokens):
                    down, right = (max(-n + 1, min(n - 1, offset)) for n, offset in zip(GRID, (y - other_y, x - other_x)))
                    relation = module.rel_pos_rows[down + GRID[0] - 1] + module.rel_pos_columns[right + GRID[1] - 1]
                    logits.append((q[:, i] * (k[:, j] + relation)).sum(1) / math.sqrt(d))
                weights = torch.stack(logits, 1).softmax(1)
                out[:, i, head * d:(head + 1) * d] = (weights[..., None] * v).sum(1)
        return identity + out @ mha.out_proj.weight.T + mha.out_proj.bias


@pytest.mark.parametrize('attention', ['fused', 'naive'])
@pytest.mark.parametrize('size', SIZES)
def test_relative_positions_are_the_naive_sum(size, attention):
    model = build(kernel_policy=policy(size), attention=attention, **RELATIVE)
    x = noise(1, 3, *size)
    actual = model(x)
    grid = model.patch_embed.token_grid(size)
    for layer in model.layers:
        layer.attn = NaiveRelativeAttention(layer.attn, grid)
    for features, expected in zip(actual, model(x)):
        assert features.shape[2:] == grid
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize('with_cls_token', [True, False])
@pytest.mark.parametrize('size', SIZES)
def test_sinusoids_are_those_of_the_report_added_to_the_patches(size, with_cls_token):
    changes = dict(kernel_policy=policy(size), with_cls_token=with_cls_token)
    model, learned = build(position='sinusoidal', **changes), build(**changes)
    rows, columns = model.patch_embed.token_grid(size)
    # The host's own model, its table replaced by the formula; the class token has no position.
    learned.load_state_dict(model.state_dict(), strict=False)
    table = [[(math.sin if i % 2 == 0 else math.cos)(pos / 10000**(i / 16)) for i in range(16)]
             for pos in range(rows * columns)]
    learned.pos_embed = nn.Parameter(torch.tensor([[[0.] * 16, *table]], dtype=torch.float64), requires_grad=False)
    learned.patch_embed.grid_size = model.patch_embed.grid_size if policy(size) == 'fixed' else (rows, columns)
    for actual, expected in zip(model(noise(1, 3, *size)), learned(noise(1, 3, *size))):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def test_parameter_names_of_the_learned_table_are_the_hosts_and_the_others_have_none():
    names = {position: set(build(position=position, with_cls_token=False).state_dict())
             for position in ('learned', 'sinusoidal', 'relative')}
    host = set(VisionTransformer(**SETTINGS).state_dict())
    assert {name for name in names['learned'] if '.kernels.' not in name} == host
    assert names['sinusoidal'] == names['learned'] - {'pos_embed'}
    assert names['relative'] - names['sinusoidal'] == {
        f'layers.{i}.attn.rel_pos_{axis}' for i in range(2) for axis in ('rows', 'columns')}
    assert names['sinusoidal'] <= names['relative']


@pytest.mark.parametrize('position', ['sinusoidal', 'relative'])
def test_they_are_initialised_and_trained_as_the_host_does(position):
    model = MSPEViT(**SETTINGS, position=position, with_cls_token=False)
    model.init_weights()
    sum(out.square().sum() for out in model.train()(noise(2, 3, 32, 48, dtype=torch.float32))).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    own = {'cls_token'} | {name for name, _ in model.named_parameters() if '.kernels.' in name and '.kernels.8.' not in name}
    assert without <= own


@pytest.mark.parametrize(('changes', 'sentence'), [
    (dict(position='magic'), "unknown position 'magic': choose one of learned, sinusoidal, relative"),
    (dict(position='relative'), 'set with_cls_token=False and with_cp=False'),
    (dict(RELATIVE, with_cp=True), 'set with_cls_token=False and with_cp=False'),
])
def test_what_does_not_go_together_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        MSPEViT(**SETTINGS, **changes)
