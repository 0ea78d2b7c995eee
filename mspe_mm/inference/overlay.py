"""The prediction of any task, painted on its image."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image

from .painting import colors_of, enlarged, paint_instances, paint_labels, with_legend

TOP = 5    # classes that are listed of a classifier


def overlay(image: np.ndarray, sample: BaseDataElement, classes: Sequence[str] | None,
            palette: Sequence[Sequence[int]] | None = None, min_score: float = 0.3) -> Image.Image:
    """A prediction on its image, with a legend.

    Args:
        image: (H, W, 3) RGB, 8 bits, at its original size.
        sample: The host's data sample with the prediction.
        classes: Names of the classes; numbers where the model does not know them.
        palette: Their colours.
        min_score: Least score of a detection that is painted.

    Returns:
        Classes of a segmentor, boxes and masks of a detector, the best classes of a classifier.
    """
    if 'pred_sem_seg' in sample:
        labels = label_map(sample)
        names = names_of(classes, int(labels.max()) + 1)
        return paint_labels(image, labels, names, colors_of(len(names), palette))
    if 'pred_instances' in sample:
        found = sample.pred_instances.cpu().numpy()
        names = names_of(classes, int(found.labels.max(initial=0)) + 1)
        found = found[found.scores >= min_score]
        return paint_instances(image, found.bboxes, found.labels, found.scores, found.masks if 'masks' in found else None,
                               names, colors_of(len(names), palette))
    return with_legend(enlarged(image), [(None, f'{name} {score:.3f}') for _, name, score in best_classes(sample, classes)])


def label_map(sample: BaseDataElement) -> np.ndarray:
    """(H, W) class indices of a segmentor's data sample, int64."""
    return sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.int64)


def best_classes(sample: BaseDataElement, classes: Sequence[str] | None) -> list[tuple[int, str, float]]:
    """Index, name and score of the :data:`TOP` best classes of a classifier's data sample, the best first."""
    scores = sample.pred_score.cpu().numpy()
    names = names_of(classes, len(scores))
    return [(int(index), names[index], float(scores[index])) for index in np.argsort(-scores, kind='stable')[:TOP]]


def names_of(classes: Sequence[str] | None, count: int) -> list[str]:
    """Names of at least ``count`` classes; numbers where there are none."""
    own = list(classes or [])
    return own + [str(index) for index in range(len(own), count)]
