"""The families of Hugging Face transformers that the tests convert: its own models, tiny, with random weights."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import transformers as hf
from helpers import randomize
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

VIT = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
SQUARE, WIDE = (64, 64), (64, 96)
SWIN = dict(embed_dim=16, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4)
SEGFORMER = dict(depths=(1, 1, 1, 1), hidden_sizes=(8, 16, 16, 32), num_attention_heads=(1, 2, 2, 2), decoder_hidden_size=16)
TEXT = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=16,
            max_position_embeddings=8, bos_token_id=0, eos_token_id=2)
TOKENS = dict(input_ids=torch.tensor([[1, 5, 7, 2]] * 2))


def dinov2(**changes) -> hf.Dinov2Config:
    return hf.Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, **changes)


def swin(**changes) -> hf.SwinConfig:
    return hf.SwinConfig(**{**SWIN, **changes}, out_features=['stage1', 'stage2', 'stage3', 'stage4'])


def sam() -> nn.Module:
    return hf.SamModel(hf.SamConfig(
        vision_config=dict(image_size=64, hidden_size=32, output_channels=16, num_hidden_layers=2, num_attention_heads=2,
                           window_size=3, global_attn_indexes=(1, ), num_pos_feats=8, mlp_dim=64),
        prompt_encoder_config=dict(hidden_size=16, image_size=64),
        mask_decoder_config=dict(hidden_size=16, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2,
                                 iou_head_hidden_dim=16)))


def mask2former() -> nn.Module:
    return hf.Mask2FormerForUniversalSegmentation(hf.Mask2FormerConfig(
        backbone_config=swin(), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=32,
        dim_feedforward=32, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5, num_labels=5))


class Family(NamedTuple):
    """A model: its base resolution (height, width), its constructor, and what it takes beside images."""

    size: tuple[int, int]
    build: Callable[[], nn.Module]
    patch: int = 16
    inputs: dict = {}


# The names are those of the documentation, the classes' own.
FAMILIES = {
    'ViTModel': Family(WIDE, lambda: hf.ViTModel(hf.ViTConfig(**VIT, image_size=WIDE))),
    'ViTForImageClassification': Family(WIDE, lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT, image_size=WIDE))),
    'Dinov2Model': Family((56, 56), lambda: hf.Dinov2Model(dinov2()), 14),
    'Dinov2Backbone': Family((56, 56), lambda: hf.Dinov2Backbone(dinov2(out_indices=(1, 2))), 14),
    'DINOv3ViTModel': Family(WIDE, lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VIT, num_register_tokens=4))),
    'CLIPVisionModel': Family(SQUARE, lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VIT, image_size=64, patch_size=16))),
    'CLIPModel': Family(SQUARE, lambda: hf.CLIPModel(hf.CLIPConfig(
        text_config=TEXT, vision_config=dict(**VIT, image_size=64, patch_size=16), projection_dim=16)), inputs=TOKENS),
    'SiglipVisionModel': Family(SQUARE, lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VIT, image_size=64))),
    'SiglipModel': Family(SQUARE, lambda: hf.SiglipModel(hf.SiglipConfig(
        text_config=TEXT, vision_config=dict(**VIT, image_size=64))), inputs=TOKENS),
    'SamModel': Family(SQUARE, sam, inputs=dict(input_points=torch.tensor([[[[20., 30.]]]] * 2))),
    'SegformerForSemanticSegmentation': Family(WIDE, lambda: hf.SegformerForSemanticSegmentation(
        hf.SegformerConfig(**SEGFORMER, num_labels=5)), 4),
    'SwinModel': Family(WIDE, lambda: hf.SwinModel(hf.SwinConfig(**{**SWIN, 'depths': (1, 1), 'num_heads': (1, 2)})), 4),
    'BeitModel': Family(SQUARE, lambda: hf.BeitModel(hf.BeitConfig(**VIT, image_size=64, use_relative_position_bias=True))),
    'BeitForSemanticSegmentation': Family(SQUARE, lambda: hf.BeitForSemanticSegmentation(hf.BeitConfig(
        **{**VIT, 'num_hidden_layers': 4}, image_size=64, use_relative_position_bias=True, out_indices=(1, 2, 3, 4),
        auxiliary_channels=16, num_labels=5))),
    'DPTForSemanticSegmentation': Family(SQUARE, lambda: hf.DPTForSemanticSegmentation(hf.DPTConfig(
        **{**VIT, 'num_hidden_layers': 4}, image_size=64, backbone_out_indices=(0, 1, 2, 3),
        neck_hidden_sizes=(8, 16, 16, 32), fusion_hidden_size=16, num_labels=5))),
    'UperNetForSemanticSegmentation': Family(WIDE, lambda: hf.UperNetForSemanticSegmentation(hf.UperNetConfig(
        backbone_config=swin(), hidden_size=16, auxiliary_channels=16, num_labels=5)), 4),
    'Mask2FormerForUniversalSegmentation': Family(WIDE, mask2former, 4),
}


def stock_model(name: str, seed: int = 0) -> nn.Module:
    """The host's model in eval mode, frozen, with no number of it at a value that hides a mistake."""
    torch.manual_seed(seed)
    return randomize(FAMILIES[name].build(), seed).eval().requires_grad_(False)


def outputs(model: nn.Module, name: str, images: Tensor) -> list[Tensor]:
    """All that a model gives for a batch of two images."""
    found = model(pixel_values=images, output_hidden_states=True, **FAMILIES[name].inputs)
    return [leaf for leaf in tree_flatten(found)[0] if isinstance(leaf, Tensor)]
