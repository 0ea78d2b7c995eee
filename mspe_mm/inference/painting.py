"""Predictions painted on their images, with a legend."""
from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
OPACITY = 0.5
SWATCH, MARGIN, FONT_SIZE = 12, 6, 12    # of the legend, in pixels
LEAST_SIDE = 256    # Overlays of small images are enlarged by whole numbers while their long side is below this, in pixels.


def colors_of(count: int, palette: Sequence[Sequence[int]] | None = None) -> list[Color]:
    """RGB colours of ``count`` classes: the data set's palette, and where it has none colours that differ."""
    own = [tuple(int(value) for value in color) for color in palette] if isinstance(palette, (list, tuple)) else []
    wheel = matplotlib.colormaps['hsv'](np.arange(count) * 0.618 % 1, bytes=True)[:, :3]    # the golden ratio spreads hues
    return (own + [tuple(int(value) for value in color) for color in wheel[len(own):]])[:max(count, len(own))]


def paint_labels(image: np.ndarray, labels: np.ndarray, classes: Sequence[str], colors: Sequence[Color]) -> Image.Image:
    """A label map over its image.

    Args:
        image: (H, W, 3) RGB, 8 bits.
        labels: (H, W) class indices.
        classes: Names of the classes.
        colors: Their colours.

    Returns:
        The image with the classes that it has in the legend, the largest first.
    """
    image, labels = enlarged(image), enlarged(labels)
    painted = np.array(colors, np.uint8)[labels]
    found, counts = np.unique(labels, return_counts=True)
    entries = [(colors[index], classes[index]) for index in found[np.argsort(-counts)]]
    return with_legend(_blended(image, painted, np.ones(labels.shape, bool)), entries)


def paint_instances(image: np.ndarray, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray,
                    masks: np.ndarray | None, classes: Sequence[str], colors: Sequence[Color]) -> Image.Image:
    """Detections over their image.

    Args:
        image: (H, W, 3) RGB, 8 bits.
        boxes: (N, 4) left, top, right, bottom in pixels.
        labels: (N) class indices.
        scores: (N) from 0 to 1.
        masks: (N, H, W) booleans, or None.
        classes: Names of the classes.
        colors: Their colours.

    Returns:
        The image with a legend of the classes that were found.
    """
    boxes = boxes * magnification(image)
    masks = None if masks is None else [enlarged(mask) for mask in masks]
    image = enlarged(image)
    for index in range(len(labels) if masks is not None else 0):
        image = _blended(image, np.broadcast_to(np.array(colors[labels[index]], np.uint8), image.shape), masks[index])
    picture = Image.fromarray(image)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    width = max(1, round(max(image.shape[:2]) / 300))
    for box, label, score in zip(boxes, labels, scores):
        draw.rectangle([float(value) for value in box], outline=colors[label], width=width)
        place, text = (float(box[0]) + 2, max(0., float(box[1]) - FONT_SIZE - 3)), f'{classes[label]} {score:.2f}'
        draw.rectangle(draw.textbbox(place, text, font), fill=colors[label])
        draw.text(place, text, _readable_on(colors[label]), font)
    return with_legend(np.asarray(picture), [(colors[label], classes[label]) for label in sorted({int(i) for i in labels})])


def with_legend(image: np.ndarray, entries: Sequence[tuple[Color | None, str]]) -> Image.Image:
    """An image (H, W, 3) with a column of colours and texts at its right."""
    if not entries:
        return Image.fromarray(image)
    font, line = ImageFont.load_default(FONT_SIZE), FONT_SIZE + 4
    widest = max(font.getlength(text) for _, text in entries)
    height = max(image.shape[0], line * len(entries) + 2 * MARGIN)
    canvas = Image.new('RGB', (image.shape[1] + round(widest) + SWATCH + 3 * MARGIN, height), 'white')
    canvas.paste(Image.fromarray(image))
    draw, left = ImageDraw.Draw(canvas), image.shape[1] + MARGIN
    for index, (color, text) in enumerate(entries):
        top = MARGIN + index * line
        if color is not None:
            draw.rectangle([left, top, left + SWATCH, top + SWATCH], fill=color, outline='black')
        draw.text((left + SWATCH + MARGIN, top - 1), text, 'black', font)
    return canvas


def magnification(image: np.ndarray) -> int:
    """How many times an image (H, W, ...) is enlarged to be looked at."""
    return max(1, LEAST_SIDE // max(image.shape[:2]))


def enlarged(image: np.ndarray) -> np.ndarray:
    """An image (H, W, ...) at the size at which it is looked at, pixel by pixel."""
    factor = magnification(image)
    return image.repeat(factor, 0).repeat(factor, 1)


def _blended(image: np.ndarray, color: np.ndarray, where: np.ndarray) -> np.ndarray:
    mixed = image.copy()
    mixed[where] = ((1 - OPACITY) * image[where] + OPACITY * color[where]).astype(np.uint8)
    return mixed


def _readable_on(color: Color) -> str:
    return 'black' if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140 else 'white'
