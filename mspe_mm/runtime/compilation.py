"""Compiling the encoder's blocks, which do not change with the resolution.

The MSPE layer puts every image on the same token grid, so the compiled blocks serve a whole sweep of resolutions. The layer
itself is not compiled: its kernel, stride and padding differ at every resolution, so each resolution would need a graph for
little more than one convolution.
"""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import chain

import torch
from mmengine.utils import digit_version
from torch import nn

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed

LEAST_VERSION = '2.6'    # from 2.5 on blocks of one kind share a graph; 2.6 brings set_stance, by which FLOPs are counted


def encoder_blocks(backbone: nn.Module) -> list[list[nn.Module]]:
    """The lists of blocks, or of stages of blocks, of a Transformer: its outermost lists of modules of one class.

    The lists are found by structure, not by name: the list is ``layers`` in mmseg's ViT, ``blocks`` or ``stages`` in timm's,
    and a list in each stage of a pyramid. Its members get tokens and at most a token grid, never the image.
    """
    found = []
    for child in backbone.children():
        if isinstance(child, (nn.ModuleList, nn.Sequential)) and _are_blocks(list(child)):
            found.append(list(child))
        elif not isinstance(child, MultiScalePatchEmbed):
            found += encoder_blocks(child)
    return found


def _are_blocks(members: list[nn.Module]) -> bool:
    kinds = {type(member) for member in members}
    return (len(kinds) == 1 and not kinds & {nn.ModuleList, nn.Sequential, nn.ModuleDict}
            and all(any(True for _ in member.parameters()) for member in members)
            and not any(isinstance(part, MultiScalePatchEmbed) for member in members for part in member.modules()))


def compile_blocks(model: nn.Module, **options) -> None:
    """Compile the blocks of a model's backbone in place, at their first call.

    Parameters keep their names, so checkpoints and adapters load as before. Blocks of one kind share a graph. A second token
    grid, as with the method ``vanilla``, adds a graph for any grid. Beyond PyTorch's ``recompile_limit`` blocks run
    uncompiled.

    Args:
        model: A model with a ``backbone``, or a backbone.
        **options: Arguments of ``torch.compile``.

    Raises:
        InputError: If this PyTorch is too old, or there are no blocks.
    """
    if digit_version(torch.__version__) < digit_version(LEAST_VERSION):
        raise InputError(f'compiling needs PyTorch {LEAST_VERSION} or newer, and this is {torch.__version__}: leave out '
                         '--compile')
    backbone = getattr(model, 'backbone', model)
    blocks = list(chain.from_iterable(encoder_blocks(backbone)))
    if not blocks:
        raise InputError(f'{type(backbone).__name__} cannot be compiled: it has no list of blocks; leave out --compile')
    for block in blocks:
        block.compile(**options)


def without_compiling() -> AbstractContextManager:
    """A context in which compiled modules run uncompiled, for tools that observe every operation."""
    set_stance = getattr(torch.compiler, 'set_stance', None)
    return set_stance('force_eager') if set_stance else nullcontext()
