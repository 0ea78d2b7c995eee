"""Forward passes of the backbones against those of the hosts, with the same weights.

``vit`` is ``MSPEViT`` against mmseg's ``VisionTransformer``. ``vitdet`` is ``MSPEViTDet`` against the ViTDet of
mmdetection's project. At the base resolution the outputs are the same. A third candidate, ours with the stock patch
embedding, shows the cost of the MSPE layer. At another resolution there are two comparisons. In the first, ours has the base
token grid, and the peer's grid grows with the image. In the second, ours has the peer's patch size, and so the same tokens.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from ..arguments import check_host, check_resolutions
from ..models import NAMES, PATCH, compiled, vit, vitdet
from ..peers import peer_vitdet, stock_patch_embedding, stock_vit, vitdet_class, vitdet_name
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step

NETWORKS = ('vit', 'vitdet')


def comparisons(settings: Settings, models: Sequence[str], networks: Sequence[str], base: int, resolutions: Sequence[int],
                peer_path: str | None = None) -> list[Comparison]:
    """The comparisons of this case.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        networks: Any of :data:`NETWORKS`.
        base: Base resolution in pixels.
        resolutions: Resolutions of the images in pixels.
        peer_path: Checkout of mmdetection; without one the peer is a naive implementation.

    Raises:
        InputError: For a resolution that is no multiple of the token grid, a missing host library, or a ``peer_path``
            without the project.
    """
    check_resolutions(base, resolutions)
    found = []
    for network in networks:
        check_host(dict(vit='mspe_mm.seg', vitdet='mspe_mm.det')[network])
        if network == 'vitdet':
            vitdet_class(peer_path)
        for model in models:
            for resolution in resolutions:
                found += _comparisons(network, model, base, resolution, settings, peer_path)
    return found


def _comparisons(network: str, model: str, base: int, resolution: int, settings: Settings,
                 peer_path: str | None) -> list[Comparison]:
    if network == 'vit':
        name, ours = 'MSPEViT', partial(vit, model, base)
        peer_name, peer = 'mmseg VisionTransformer', partial(stock_vit, model, base)
    else:
        name, ours = 'MSPEViTDet', partial(vitdet, model, base)
        peer_name, peer = vitdet_name(peer_path), partial(peer_vitdet, model, base, peer_path)
    tokens = (-(-resolution // PATCH))**2    # with a fixed patch size

    def candidate(title: str, make: Callable[[], nn.Module], tokens: int = tokens, same: bool = True,
                  ours: bool = True) -> Candidate:
        return Candidate(title, partial(forward, make, resolution, settings), tokens, settings.batch_size,
                         same_output=same, work='forward' if same else None, ours=ours)

    labels = dict(model=NAMES[model], image=f'{resolution} px')
    if resolution == base:
        return [Comparison(labels, candidate(name, ours), (
            candidate(peer_name, peer, ours=False),
            candidate(f'{name}, stock patch embedding', partial(_with_stock_patch_embedding, ours))))]
    as_it_is = candidate(name, ours, (base // PATCH)**2, same=False)
    same_tokens = candidate(f'{name}, patches of {PATCH} px', partial(ours, kernel_policy='constant'))
    return [Comparison(labels, as_it_is, (candidate(peer_name, peer, same=False, ours=False), )),
            Comparison(labels, same_tokens, (candidate(peer_name, peer, ours=False), ))]


def _with_stock_patch_embedding(make: Callable[[], nn.Module]) -> nn.Module:
    return stock_patch_embedding(make())


def forward(make: Callable[[], nn.Module], resolution: int, settings: Settings) -> Step:
    """A forward pass in eval mode. The weights are cast to the dtype of the settings."""
    model = make()
    model.to(settings.device, settings.dtype)
    model.eval()    # a separate line: eval() of mmseg's models returns None
    compiled(model, settings.compile)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(settings.batch_size, 3, resolution, resolution, generator=generator)
    images = images.to(settings.device, settings.dtype)

    def step(_: int) -> object:
        with torch.no_grad():
            return model(images)
    return step
