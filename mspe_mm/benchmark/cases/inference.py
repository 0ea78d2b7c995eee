"""Prediction by a whole segmentor or detector, from uint8 images, by three methods of the sweep.

``mspe`` keeps the base token grid. ``vanilla`` has the stock patch size. ``img_resize`` is ``vanilla`` on images that are
resized to the base resolution on the device. All three are models of this package. Coarser token grids of ``mspe`` can be
compared with its base grid.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ...evaluation.methods import restores_image
from ...layers.resize import resize_image
from ...models.find import find_patch_embed
from ..arguments import check_network, check_resolutions
from ..models import NAMES, PATCH, compiled, mask_rcnn, setr
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step

NETWORKS = {'setr': 'SETR', 'mask-rcnn': 'Mask R-CNN'}


def comparisons(settings: Settings, models: Sequence[str], networks: Sequence[str], base: int,
                resolutions: Sequence[int], token_grids: Sequence[int] = ()) -> list[Comparison]:
    """The comparisons of this case.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        networks: Any of :data:`NETWORKS`.
        base: Base resolution in pixels.
        resolutions: Resolutions of the images in pixels.
        token_grids: Sides of other token grids of ``mspe``.

    Raises:
        InputError: If a resolution is no multiple of the token grid or too small for the network, or a host library is
            missing.
    """
    check_resolutions(base, resolutions)
    found = []
    for network in networks:
        check_network(network, [base, *resolutions])
        for model in models:
            for resolution in resolutions:
                own, fixed = (-(-resolution // PATCH))**2, (base // PATCH)**2
                mspe, *peers = (
                    Candidate(method, partial(predicting, network, model, base, resolution, method, settings),
                              tokens=own if method == 'vanilla' else fixed, images=settings.batch_size,
                              same_output=resolution == base and network == 'setr', ours=True)
                    for method in ('mspe', 'vanilla', 'img_resize'))
                peers += [
                    Candidate(f'mspe, {side} x {side} tokens',
                              partial(predicting, network, model, base, resolution, 'mspe', settings, (side, side)),
                              tokens=side**2, images=settings.batch_size, ours=True) for side in token_grids]
                labels = dict(model=f'{NETWORKS[network]}, {NAMES[model]}', image=f'{resolution} px')
                found.append(Comparison(labels, mspe, tuple(peers)))
    return found


def predicting(network: str, size: str, base: int, resolution: int, method: str, settings: Settings,
               grid: tuple[int, int] | None = None) -> Step:
    """A prediction from images (B, 3, R, R), uint8, on a token grid, by default that of ``method``."""
    make = setr if network == 'setr' else mask_rcnn
    model = make(size, base, kernel_policy='fixed' if method == 'mspe' else 'constant')
    model.to(settings.device).eval()
    compiled(model.backbone, settings.compile)
    layer = find_patch_embed(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (settings.batch_size, 3, resolution, resolution), generator=generator, dtype=torch.uint8)

    def step(_: int) -> list[Tensor]:
        with torch.no_grad(), settings.autocast(), layer.force_grid(grid):
            inputs = images.to(settings.device)
            if restores_image(method):
                inputs = resize_image(inputs.float(), (base, base))
            samples = samples_of(network, settings.batch_size, resolution, inputs.shape[-1])
            found = model.test_step(dict(inputs=list(inputs), data_samples=samples))
            return [sample.seg_logits.data if network == 'setr' else sample.pred_instances.bboxes for sample in found]
    return step


def samples_of(network: str, count: int, original: int, size: int) -> list:
    """Samples as a pipeline packs them, for images of ``original`` px that are resized to ``size`` px."""
    if network == 'setr':
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    return [Sample(metainfo=dict(ori_shape=(original, original), img_shape=(size, size),
                                 scale_factor=(size / original, size / original))) for _ in range(count)]
