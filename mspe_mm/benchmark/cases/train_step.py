"""One step of tuning at K = 4 resolutions against other ways to train at them.

``setr`` is SETR-Naive and ``mask-rcnn`` is Mask R-CNN on ViTDet. ``vitdet`` is the backbone of the latter alone; its loss is
the mean square of its features. All four kernels are tuned, also the one of the base size, and lambda is 0, so a step has
exactly four passes. All candidates draw the same four resolutions in a round. The peers:

* full fine-tuning by the same four passes, one after the other: all weights are trained; for ``setr`` also with attention
  and linear layers as mmseg computes them;
* the sum of the four losses in one graph, which is Eq. 7 as written: the kernels alone are trained;
* for ``vitdet``, the same with the backbone of mmdetection's project;
* one pass, at the largest of the four resolutions.

For ``setr`` a second table has the step of the recipes that mix resolutions: one pass, in which each image has one of the
four resolutions, and one pass of the teacher at the base resolution. Its peer is full fine-tuning that sees each of the same
images at all four resolutions.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..arguments import check_base, check_host, check_pyramid
from ..models import NAMES, PATCH
from ..peers import vitdet_class, vitdet_name
from ..ratios import Candidate, Comparison, Settings
from ..trainees import mask_rcnn_trainee, setr_trainee, vitdet_trainee
from ..training import Way, by_the_package, in_one_graph, one_after_the_other, the_largest_alone, training

NETWORKS = {
    'setr': ('SETR', setr_trainee),
    'vitdet': ('ViTDet', vitdet_trainee),
    'mask-rcnn': ('Mask R-CNN', mask_rcnn_trainee),
}


def comparisons(settings: Settings, models: Sequence[str], networks: Sequence[str], resolutions: Sequence[int],
                peer_path: str | None = None) -> list[Comparison]:
    """The comparisons of this case.

    Args:
        settings: Settings of the run.
        models: Model sizes.
        networks: Any of :data:`NETWORKS`.
        resolutions: Base resolutions in pixels.
        peer_path: Checkout of mmdetection; without one the peer is a naive implementation.

    Raises:
        InputError: For a resolution that is not whole patches, a missing host library, or a ``peer_path`` without the
            project.
    """
    found = []
    for network in networks:
        check_host('mspe_mm.seg' if network == 'setr' else 'mspe_mm.det')
        if network == 'vitdet':
            vitdet_class(peer_path)
        if network == 'mask-rcnn':
            check_pyramid(resolutions)
        for model in models:
            for base in resolutions:
                check_base(base)
                found.append(_comparison(network, model, base, settings, peer_path))
                if network == 'setr':
                    found.append(_mixed(model, base, settings))
    return found


def _candidate(network: str, model: str, base: int, settings: Settings, title: str, way: Way, tuned: bool = True,
               same: bool = False, ours: bool = True, **of) -> Candidate:
    trainee = partial(NETWORKS[network][1], model, base, tuned, settings, **of)
    return Candidate(title, partial(training, trainee, way, settings), (base // PATCH)**2, settings.batch_size,
                     same_output=same, work='tuning' if same else None, ours=ours)


def _labels(network: str, model: str, base: int) -> dict[str, str]:
    return dict(model=f'{NETWORKS[network][0]}, {NAMES[model]}', image=f'{base} px')


def _comparison(network: str, model: str, base: int, settings: Settings, peer_path: str | None) -> Comparison:
    candidate = partial(_candidate, network, model, base, settings)
    peers = [candidate('full fine-tuning, the same 4 passes', one_after_the_other, tuned=False),
             candidate('sum of the 4 losses in one graph', in_one_graph, same=True)]
    if network == 'setr':
        peers.append(candidate("full fine-tuning, mmseg VisionTransformer's layers", one_after_the_other, tuned=False,
                               ours=False, attention='naive'))
    if network == 'vitdet':
        peers.append(candidate(f'sum of the 4 losses, {vitdet_name(peer_path)}', in_one_graph, same=True, ours=False,
                               peer=True, peer_path=peer_path))
    peers.append(candidate('one resolution', the_largest_alone))
    return Comparison(_labels(network, model, base), candidate('MSPE tuning, K = 4', by_the_package, same=True),
                      tuple(peers))


def _mixed(model: str, base: int, settings: Settings) -> Comparison:
    candidate = partial(_candidate, 'setr', model, base, settings)
    return Comparison(_labels('setr', model, base),
                      candidate('MSPE tuning, one of 4 resolutions for each image, teacher', by_the_package, mixed=True),
                      (candidate('full fine-tuning, 4 resolutions for each image', one_after_the_other, tuned=False), ))
