"""Pictures of a segmentor's input, annotation and predictions: a column per method, a row per resolution."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from mmengine.runner import Runner

from ..files import replacing
from .report import LABELS
from .sweep import prepared


@dataclass
class Panel:
    """One image, segmented by one method at one resolution.

    Attributes:
        image: (h, w, 3), uint8, RGB: the input of the model.
        annotation: (H, W) class indices at the original size.
        prediction: (H, W) class indices at the original size.
    """

    image: np.ndarray
    annotation: np.ndarray
    prediction: np.ndarray


def predict(runner: Runner, method: str, resolution: tuple[int, int], indices: Sequence[int], **settings) -> list[Panel]:
    """The panels of some images of the test set.

    Args:
        runner: The runner of a segmentor whose model is loaded.
        method: One of :data:`~mspe_mm.evaluation.methods.METHODS`.
        resolution: (height, width) in pixels that the base resolution becomes.
        indices: Indices of the images in the test set.
        **settings: Of :func:`~mspe_mm.evaluation.sweep.prepared`.
    """
    panels = []
    with prepared(runner, method, resolution, **settings) as (loader_cfg, _, _):
        dataset = runner.build_dataloader(loader_cfg).dataset
        for index in indices:
            item = dataset[index]
            batch = {key: [value] for key, value in item.items()}
            (sample, ) = runner.model.test_step(batch)
            image = item['inputs'].permute(1, 2, 0).byte().numpy()
            panels.append(Panel(image[..., ::-1], *(getattr(sample, name).data.squeeze(0).cpu().numpy()
                                                    for name in ('gt_sem_seg', 'pred_sem_seg'))))
    return panels


def draw(panels: dict[tuple[str, tuple[int, int]], list[Panel]], palette: Sequence[Sequence[int]],
         path: str | Path) -> None:
    """Save the panels of all methods and resolutions: a block of rows per image, in each block a row per resolution.

    Args:
        panels: {(method, resolution): panels}, of the same images everywhere.
        palette: Colours of the classes, RGB from 0 to 255. Ignored pixels of the annotation are white.
        path: Path of the PNG file.
    """
    methods = list(dict.fromkeys(method for method, _ in panels))
    resolutions = list(dict.fromkeys(resolution for _, resolution in panels))
    count = len(next(iter(panels.values())))
    colors = np.full((256, 3), 255, np.uint8)
    colors[:len(palette)] = palette
    height, width = panels[methods[0], resolutions[0]][0].annotation.shape
    matplotlib.use('agg')
    rows, columns = count * len(resolutions), 2 + len(methods)
    figure, axes = plt.subplots(rows, columns, figsize=(2.2 * columns, 2.2 * height / width * rows + 0.3),
                                layout='constrained', squeeze=False)
    for index in range(count):
        for line, resolution in enumerate(resolutions):
            row = axes[index * len(resolutions) + line]
            first = panels[methods[0], resolution][index]
            row[0].imshow(first.image, extent=(0, width, height, 0), interpolation='nearest')
            row[0].set_ylabel('{} × {}'.format(*resolution))
            row[1].imshow(colors[first.annotation])
            for axis, method in zip(row[2:], methods):
                axis.imshow(colors[panels[method, resolution][index].prediction])
    for axis, title in zip(axes[0], ('Image', 'Annotation', *(LABELS.get(method, method) for method in methods))):
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format='png')
    plt.close(figure)
