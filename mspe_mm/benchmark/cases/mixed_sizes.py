"""Prediction on images of eight sizes: in one pass, one by one, and padded to the largest.

The images are uint8, as many of each size. ``one pass`` embeds each at its own size and stacks the tokens
(``TunedModel.test_step``). ``one by one`` calls the same model for each image. ``padded`` is what mmseg does with such a
batch: zeros up to the size of the largest image, whose kernel embeds all. The model is a SETR of this package.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..arguments import check_base, check_host
from ..models import NAMES, PATCH, compiled, setr
from ..ratios import Candidate, Comparison, Settings
from ..timing import Step
from .inference import samples_of

SIZES = 8


def comparisons(settings: Settings, models: Sequence[str], resolutions: Sequence[int], images: int) -> list[Comparison]:
    """What is compared.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        resolutions: Base resolutions in pixels.
        images: Number of images.

    Raises:
        InputError: For a resolution that is not whole patches, or a missing host library.
    """
    check_host('mspe_mm.seg')
    found = []
    for model in models:
        for base in resolutions:
            check_base(base)
            ours, *peers = (
                Candidate(way, partial(predicting, model, base, images, way, settings), tokens=(base // PATCH)**2,
                          images=images, same_output=way == 'one by one', ours=True)
                for way in ('one pass', 'one by one', 'padded'))
            labels = dict(model=f'SETR, {NAMES[model]}', image=f'{base // SIZES} to {base} px')
            found.append(Comparison(labels, ours, tuple(peers), memory=False, flops=False))
    return found


def predicting(size: str, base: int, images: int, way: str, settings: Settings) -> Step:
    """The probabilities of images of eight sizes."""
    model = setr(size, base).to(settings.device).eval()
    compiled(model.backbone, settings.compile)
    generator = torch.Generator().manual_seed(0)
    lengths = [base * (1 + index % SIZES) // SIZES for index in range(images)]
    batch = [torch.randint(256, (3, length, length), generator=generator, dtype=torch.uint8) for length in lengths]

    def samples(of: Sequence[Tensor]) -> list:
        return [sample for image in of for sample in samples_of('setr', 1, image.shape[-1], image.shape[-1])]

    def step(_: int) -> list[Tensor]:
        given = batch
        if way == 'padded':
            given = [pad(image, (0, base - image.shape[-1], 0, base - image.shape[-2])) for image in batch]
        calls = [[image] for image in given] if way == 'one by one' else [given]
        with torch.no_grad(), settings.autocast():
            found = [sample for call in calls for sample in model.test_step(dict(inputs=call, data_samples=samples(call)))]
        return [sample.seg_logits.data for sample in found]
    return step
