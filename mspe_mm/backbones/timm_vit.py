"""timm's plain Vision Transformers with the MSPE layer, as backbones for mmseg and mmdet."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from ..models.checkpoint import read_checkpoint, weights_of
from ..models.convert import convert_patch_embed
from ..models.settings import split_layer_settings
from .timm_model import create_timm_model


@MODELS.register_module()
class MSPETimmViT(BaseModule):
    """A plain Vision Transformer of timm (DINOv2, DINOv3, SAM, EVA-02, SigLIP, CLIP, DeiT III, PE) at any resolution.

    The feature maps are those of timm's ``forward_intermediates``: at ``img_size`` they are timm's, bit for bit, and images
    of other sizes have the same token grid. Class and register tokens are not among them. The timm model is ``vit``; its
    parameters keep timm's names, and ``vit.patch_embed.kernels`` is added. Blocks after the last of ``out_indices``, the
    classifier and the pooling are removed. With ``kernel_sizes=(patch size, )`` and ``kernel_policy='constant'`` it is
    timm's model.

    ``init_weights`` loads the pretrained weights; an mmengine runner calls it before a training, and not before a test.

    Args:
        model_name: The model's name in timm, with a tag the name of its weights: ``'vit_base_patch14_dinov2.lvd142m'``.
        img_size: Base resolution in pixels, one number or (height, width), whole patches. Positions are for this size: timm
            resamples a pretrained table to it.
        out_indices: The blocks whose outputs are returned, ascending; negative ones count from the last.
        norm: Whether the maps pass the model's final norm. SAM's is its neck, which gives 256 channels.
        frozen: Whether the weights do not train and the model stays in eval mode.
        drop_path_rate: Drop-path rate of the last block, rising linearly from 0 at the first.
        with_cp: Recompute the blocks in the backward pass instead of keeping their activations.
        pretrained: Load the weights that ``model_name`` stands for from the hub.
        model_kwargs: Further arguments of ``timm.create_model``. SAM needs ``dict(img_size=1024)`` for its published
            weights at another ``img_size``: it resamples its tables itself, in each pass.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)``: weights in timm's names or in those of the model's authors,
            where timm knows them. ``FILE`` is a path or a URL. With ``prefix='backbone.'``, as in mmengine, the weights
            whose names begin so, without the prefix: those of a ``TimmClassifier``.
        **layer: ``kernel_sizes``, ``context``, ``kernel_policy``, ``fit``, ``parameterization``, ``tune_base`` and
            ``downsampling`` of :class:`~mspe_mm.layers.patch_embed.MultiScalePatchEmbed`.

    Raises:
        InputError: For an unknown key or model, with the nearest valid name; for a model that is no plain Vision
            Transformer; for an ``img_size`` or ``out_indices`` that it does not have.

    Attributes:
        vit: timm's model.
        out_indices: The blocks whose outputs are returned, counted from 0.
    """

    def __init__(self,
                 model_name: str,
                 img_size: int | Sequence[int],
                 out_indices: Sequence[int] = (-1, ),
                 norm: bool = True,
                 frozen: bool = False,
                 drop_path_rate: float = 0.,
                 with_cp: bool = False,
                 pretrained: bool = False,
                 model_kwargs: dict | None = None,
                 init_cfg: dict | None = None,
                 **layer: Any) -> None:
        super().__init__(init_cfg)
        layer, _ = split_layer_settings(layer, type(self))
        if init_cfg is not None and init_cfg.get('type') != 'Pretrained':
            raise InputError(f"init_cfg of MSPETimmViT is dict(type='Pretrained', checkpoint=FILE), got {init_cfg}")
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.model_name, self.norm, self.frozen, self.pretrained = model_name, norm, frozen, pretrained
        self.model_kwargs = {'img_size': size, 'drop_path_rate': drop_path_rate, **(model_kwargs or {})}
        self.vit = create_timm_model(model_name, **self.model_kwargs)
        _check_plain(self.vit, model_name)
        patch = self.vit.patch_embed.patch_size[0]
        if any(length % patch for length in size):
            fitting = ' x '.join(str(max(1, round(length / patch)) * patch) for length in size)
            raise InputError(f'img_size must be whole patches of {patch} px for {model_name}, got {size[0]} x {size[1]}: '
                             f'the nearest such size is {fitting}')
        self.out_indices = _block_indices(out_indices, len(self.vit.blocks))
        self.vit.prune_intermediate_layers(list(self.out_indices), prune_norm=not norm)
        self.vit.set_grad_checkpointing(with_cp)
        convert_patch_embed(self.vit, size, **layer)
        if frozen:
            self.vit.requires_grad_(False)

    @property
    def patch_embed(self) -> MultiScalePatchEmbed:
        """The MSPE layer."""
        return self.vit.patch_embed

    def init_weights(self) -> None:
        """Load the pretrained weights. Without them, those that timm has drawn stay.

        Raises:
            InputError: If they cannot be read, or are of another model.
        """
        if self._is_init or not (self.pretrained or self.init_cfg):
            return
        source = {}
        if self.init_cfg:
            source['pretrained_cfg_overlay'] = dict(state_dict=_named_weights(**self.init_cfg))
        # timm knows each model's files: other names, tables for other sizes. It loads them into a whole model, strictly.
        whole = create_timm_model(self.model_name, pretrained=True, **self.model_kwargs, **source).state_dict()
        own = self.vit.state_dict()
        self.vit.load_state_dict({name: value for name, value in whole.items() if name in own}, strict=True)
        self._is_init = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, D, rows, columns) of the blocks ``out_indices``, for images (B, C, H, W) of any size.

        They are contiguous, as hosts' backbones return them: mmcv's RoIAlign reads other layouts wrongly, without a word.
        """
        return tuple(features.contiguous() for features in self._intermediates(x))

    def all_tokens(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of :meth:`forward`, each followed by the class and register tokens (B, tokens, D) of its block.

        A model without such tokens has the maps alone.
        """
        if not getattr(self.vit, 'num_prefix_tokens', 0):    # SAM's has no such attribute
            return self.forward(x)
        return tuple(tokens for pair in self._intermediates(x, return_prefix_tokens=True) for tokens in pair)

    def _intermediates(self, x: Tensor, **settings: Any) -> list:
        return self.vit.forward_intermediates(
            x, indices=list(self.out_indices), norm=self.norm, intermediates_only=True, **settings)

    def train(self, mode: bool = True) -> MSPETimmViT:
        super().train(mode)
        if self.frozen:
            self.vit.eval()
        return self


def _named_weights(checkpoint: str, prefix: str = '', **_: Any) -> dict[str, Tensor]:
    """The weights of a checkpoint whose names begin with ``prefix``, without it."""
    weights = {name[len(prefix):]: value for name, value in weights_of(read_checkpoint(checkpoint)).items()
               if name.startswith(prefix)}
    if not weights:
        raise InputError(f'checkpoint {checkpoint} has no names that begin with {prefix!r}: correct init_cfg.prefix')
    return weights


def _check_plain(vit: nn.Module, name: str) -> None:
    """Raise an InputError unless a timm model is a sequence of blocks on one token grid."""
    needed = ('blocks', 'patch_embed', 'forward_intermediates', 'prune_intermediate_layers', 'set_grad_checkpointing')
    if not all(hasattr(vit, attribute) for attribute in needed) or not hasattr(vit.patch_embed, 'patch_size'):
        raise InputError(f'{name} is a {type(vit).__name__}, and MSPETimmViT is for the plain Vision Transformers of timm: '
                         "take the host's own backbone with patch_embed=dict(base_resolution=...)")


def _block_indices(indices: Sequence[int], depth: int) -> tuple[int, ...]:
    """``indices`` of blocks counted from 0."""
    found = tuple(index + depth if index < 0 else index for index in indices)
    if not found or list(found) != sorted(set(found)) or not (found[0] >= 0 and found[-1] < depth):
        raise InputError(f'out_indices must be blocks in ascending order, of 0 to {depth - 1}, or negative ones from the '
                         f'last, got {tuple(indices)}')
    return found
