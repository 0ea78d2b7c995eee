"""The methods side by side on one image, as pictures."""
from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps

from ..evaluation.methods import may_fail, restores_image, using_method
from ..evaluation.report import LABELS
from ..evaluation.sweep import can_be_of_size, now
from ..evaluation.tasks import task_of
from ..inference.overlay import overlay
from ..inference.painting import enlarged
from ..inference.predictor import Predictor

UNTUNED = ('vanilla', 'img_resize', 'flexivit', 'prior')
LONGEST_SIDE = 1024    # of a picture, in pixels: a photograph of a camera would take seconds to paint and to send

TIMED_PASSES = 3    # the quickest counts: others wait for the rest of the machine


def compare(predictor: Predictor, image: Image.Image, resolution: tuple[int, int]) -> list[tuple[Image.Image, str]]:
    """What each method predicts on an image at a resolution.

    No other thread may use the model meanwhile, see :func:`~mspe_mm.evaluation.methods.using_method`.

    Args:
        predictor: A predictor with the model.
        image: Any size; it is shrunk to :data:`LONGEST_SIDE`, or to the base resolution where that is larger.
        resolution: (height, width) in pixels that the base resolution becomes, as in a sweep.

    Returns:
        Pictures with captions: the image as the model sees it, then an overlay of each of :data:`UNTUNED`, and of ``mspe``
        if the model is tuned. The captions have the milliseconds of the model, from prepared image to prediction. Of a
        method that cannot run at the resolution, the picture is the bare image. All pictures have one size.
    """
    layer = predictor.model.mspe_layer
    image = image.convert('RGB')
    image.thumbnail((max(LONGEST_SIDE, *layer.base_resolution), ) * 2)
    pixels = np.asarray(image)
    seen = _as_seen(predictor.model, image, resolution)
    shown = ImageOps.contain(seen, enlarged(pixels).shape[1::-1], Image.NEAREST)
    pictures = [(shown, f'The image at {seen.height} × {seen.width} px')]
    for method in (*UNTUNED, 'mspe') if layer.is_tuned() else UNTUNED:
        try:
            sample, seconds = _predict(predictor.model, method, image, resolution)
        except (AssertionError, RuntimeError, ValueError) as error:
            if not (may_fail(method) and tuple(resolution) != layer.base_resolution and can_be_of_size(error)):
                raise
            pictures.append((Image.fromarray(enlarged(pixels)), f'{LABELS[method]}: cannot run at this size'))
        else:
            picture = overlay(pixels, sample, predictor.classes, predictor.palette)
            pictures.append((picture, f'{LABELS[method]}: {1000 * seconds:.1f} ms'))
    return _of_one_size(pictures)


def _predict(model: torch.nn.Module, method: str, image: Image.Image, resolution: tuple[int, int]) -> tuple:
    """The data sample of an image by a method, and the seconds of the quickest pass after one that resizes kernels."""
    restore = restores_image(method)
    scale = tuple(length / whole for length, whole in zip(resolution, model.mspe_layer.base_resolution))
    with using_method(model, method), task_of(model.cfg).scaled_inference(model, (1., 1.) if restore else scale):
        predictor = Predictor(model, resolution, restore)
        read = predictor.read(image)
        predictor.predict([predictor.prepare(read)])
        seconds = []
        for _ in range(TIMED_PASSES):
            prepared = [predictor.prepare(read)]
            start = now()
            (sample, ) = predictor.predict(prepared)
            seconds.append(now() - start)
        return sample, min(seconds)


def _as_seen(model: torch.nn.Module, image: Image.Image, resolution: tuple[int, int]) -> Image.Image:
    """The image as the pipeline prepares it for the model."""
    predictor = Predictor(model, resolution)
    pixels = predictor.prepare(predictor.read(image))['inputs'].permute(1, 2, 0).numpy()    # bytes, BGR unless of timm
    if model.cfg.default_scope != 'mmengine':
        pixels = pixels[..., ::-1]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _of_one_size(pictures: list[tuple[Image.Image, str]]) -> list[tuple[Image.Image, str]]:
    """Pictures with captions, filled up with white: their legends differ, and the page shall show all at one scale."""
    size = tuple(max(picture.size[axis] for picture, _ in pictures) for axis in (0, 1))

    def filled(picture: Image.Image) -> Image.Image:
        canvas = Image.new('RGB', size, 'white')
        canvas.paste(picture)
        return canvas
    return [(filled(picture), caption) for picture, caption in pictures]
