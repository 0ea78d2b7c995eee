"""RIViT: its attention is the naive sum, its parts are timm's and the report's."""
import math

import pytest
import timm
import torch
from helpers import noise, randomize
from timm.models.vision_transformer import VisionTransformer

from mspe_mm.cls import RIViT
from mspe_mm.cls.rivit import EMBEDDINGS, RelativeAttention
from mspe_mm.layers.position import POSITIONS

TINY = dict(img_size=16, patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2, stem_channels=4, map_size=16)


def build(**changes):
    return randomize(RIViT(**{**TINY, **changes}).double()).eval()


@pytest.mark.parametrize('grid', [(3, 3), (2, 4), (5, 3)])    # of a module made for 3 x 3: the last reach beyond its table
def test_relative_attention_is_the_naive_sum(grid):
    module = randomize(RelativeAttention(8, 2, (3, 3)).double())
    x = noise(2, grid[0] * grid[1], 8)
    rows, columns = module.rel_pos_rows, module.rel_pos_columns
    tokens = [(i // grid[1], i % grid[1]) for i in range(len(x[0]))]
    qkv = x @ module.qkv.weight.T + module.qkv.bias
    out = torch.zeros_like(x)
    for head in range(2):
        q, k, v = (qkv[..., 8 * part + 4 * head:8 * part + 4 * head + 4] for part in range(3))
        for i, (y, column) in enumerate(tokens):
            logits = []
            for j, (other_y, other_column) in enumerate(tokens):
                down, right = (max(-2, min(2, offset)) for offset in (y - other_y, column - other_column))
                relation = rows[down + 2] + columns[right + 2]    # R for this pair of tokens
                logits.append(((q[:, i] * k[:, j]).sum(1) + (q[:, i] * relation).sum(1)) / math.sqrt(4))
            weights = torch.stack(logits, 1).softmax(1)
            out[:, i, 4 * head:4 * head + 4] = (weights[..., None] * v).sum(1)
    expected = out @ module.proj.weight.T + module.proj.bias
    torch.testing.assert_close(module(x, grid), expected, rtol=0, atol=1e-10)


def test_learned_positions_on_plain_patches_are_timms_vit():
    ours = build(embedding='patch', position='learned')
    host = VisionTransformer(img_size=16, patch_size=4, num_classes=3, embed_dim=16, depth=2, num_heads=2, class_token=False,
                             global_pool='avg', fc_norm=False).double().eval()
    host.load_state_dict(ours.state_dict(), strict=True)
    images = noise(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), host(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('embedding', EMBEDDINGS)
@pytest.mark.parametrize('size', [(16, 16), (9, 30), (40, 40)])
def test_every_combination_takes_every_resolution_and_trains_all_its_weights(position, embedding, size):
    model = build(position=position, embedding=embedding)
    out = model(noise(2, 3, *size))
    assert out.shape == (2, 3)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize('position', POSITIONS)
def test_positions_matter(position):
    """Without them, a ViT with mean pooling gives the same answer whatever the order of its patches."""
    model = build(position=position, embedding='patch')
    images = noise(1, 3, 16, 16)
    shuffled = images.unflatten(2, (4, 4))[:, :, [2, 0, 3, 1]].flatten(2, 3)    # the rows of patches
    assert (model(images) - model(shuffled)).abs().max() > 1e-6


def test_the_stem_has_256_tokens_whatever_the_resolution():
    model = timm.create_model('rivit_tiny_patch4_160', depth=1, position='learned')
    assert model.pos_embed.shape == (1, 256, 192)
    assert timm.create_model('rivit_tiny_patch4_160', depth=1, position='learned', embedding='patch').pos_embed.shape == (
        1, 1600, 192)


@pytest.mark.parametrize('key', ['embedding', 'position'])
def test_unknown_choices_are_refused(key):
    with pytest.raises(ValueError, match=f"unknown {key} 'magic': choose one of"):
        RIViT(**{**TINY, key: 'magic'})
