"""An adapter that a model's settings name: it is loaded when the pretrained kernel is."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..layers.patch_embed import MultiScalePatchEmbed
from .adapter import base_digest, check_settings, load_adapter, read_adapter


class AdapterOnLoad:
    """Has a layer load an adapter whenever its weights are loaded, by whomever: PyTorch, mmengine or a host's inferencer.

    An adapter belongs to one pretrained kernel. Until the layer has that kernel the adapter is waiting, and
    :meth:`require` refuses to go on without it.

    Args:
        patch_embed: The layer.
        path: The adapter's file.

    Raises:
        AdapterMismatchError: If the adapter was tuned for a layer with other settings.
        InputError: If the file is missing, damaged or no adapter.
    """

    def __init__(self, patch_embed: MultiScalePatchEmbed, path: str | Path) -> None:
        self.path, (_, self._metadata) = str(path), read_adapter(path)
        check_settings(patch_embed, self._metadata, self.path)
        self._waiting = True
        self._handle = patch_embed.register_load_state_dict_post_hook(self.load)
        self.load(patch_embed)

    def load(self, patch_embed: MultiScalePatchEmbed, _: Any = None) -> None:
        """Load the adapter if the layer has the pretrained kernel that it was tuned from.

        Raises:
            InputError: If the layer has got other tuned kernels: nothing says which are meant.
        """
        self._waiting = self._metadata.get('base_digest') != f'"{base_digest(patch_embed)}"'
        if self._waiting:
            return
        before = [p.detach().clone() for p in patch_embed.kernels.parameters()] if patch_embed.is_tuned() else []
        load_adapter(patch_embed, self.path)
        eps = max((torch.finfo(p.dtype).eps for p in before), default=0.)
        if not all(torch.allclose(p, old, rtol=8 * eps) for p, old in zip(patch_embed.kernels.parameters(), before)):
            raise InputError(f'the checkpoint has tuned patch kernels that are not those of model.adapter={self.path}: give '
                             'the checkpoint that the adapter was tuned from, or set model.adapter=None')

    def require(self) -> None:
        """Raise an InputError if the adapter is still waiting."""
        if self._waiting:
            raise InputError(f'model.adapter={self.path} is not loaded, because the model does not have the pretrained '
                             'kernel that it was tuned from: load the checkpoint that it was tuned from')

    def remove(self) -> None:
        """Leave the layer's kernels as they are from now on."""
        self._handle.remove()
        self._waiting = False
