"""The methods side by side on one image, as pictures."""
from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..evaluation.methods import may_fail, restores_image, using_method
from ..evaluation.report import LABELS
from ..evaluation.sweep import can_be_of_size, now
from ..evaluation.tasks import task_of
from ..inference.overlay import overlay
from ..inference.painting import enlarged
from ..inference.predictor import Predictor

UNTUNED = ('vanilla', 'img_resize', 'flexivit', 'prior')
LONGEST_SIDE = 1024    # of a picture, in pixels: a photograph of a camera would take seconds to paint and to send


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
        method that cannot run at the resolution, the picture is the bare image.
    """
    layer = predictor.model.mspe_layer
    image = image.convert('RGB')
    image.thumbnail((max(LONGEST_SIDE, *layer.base_resolution), ) * 2)
    pixels = np.asarray(image)
    seen = _as_seen(predictor.model, image, resolution)
    pictures = [(seen[0], 'The image at {} × {} px'.format(*seen[1]))]
    for method in (*UNTUNED, 'mspe') if layer.is_tuned() else UNTUNED:
        try:
            sample, seconds = _predict(predictor.model, method, image, resolution)
        except (AssertionError, RuntimeError, ValueError) as error:
            if not (may_fail(method) and tuple(resolution) != layer.base_resolution and can_be_of_size(error)):
                raise
            pictures.append((image, f'{LABELS[method]}: cannot run at this size'))
        else:
            picture = overlay(pixels, sample, predictor.classes, predictor.palette)
            pictures.append((picture, f'{LABELS[method]}: {1000 * seconds:.1f} ms'))
    return pictures


def _predict(model: torch.nn.Module, method: str, image: Image.Image, resolution: tuple[int, int]) -> tuple:
    """The data sample of an image by a method, and the seconds of the second of two passes: the first resizes kernels."""
    restore = restores_image(method)
    scale = tuple(length / whole for length, whole in zip(resolution, model.mspe_layer.base_resolution))
    with using_method(model, method), task_of(model.cfg).scaled_inference(model, (1., 1.) if restore else scale):
        predictor = Predictor(model, resolution, restore)
        read = predictor.read(image)
        predictor.predict([predictor.prepare(read)])
        prepared = [predictor.prepare(read)]
        start = now()
        (sample, ) = predictor.predict(prepared)
        return sample, now() - start


def _as_seen(model: torch.nn.Module, image: Image.Image, resolution: tuple[int, int]) -> tuple[Image.Image, torch.Size]:
    """The image as the pipeline prepares it for the model, and its (height, width) in pixels."""
    predictor = Predictor(model, resolution)
    inputs = predictor.prepare(predictor.read(image))['inputs']    # (3, h, w) bytes, BGR unless of timm
    pixels = inputs.permute(1, 2, 0).numpy()
    if model.cfg.default_scope != 'mmengine':
        pixels = pixels[..., ::-1]
    return Image.fromarray(enlarged(np.ascontiguousarray(pixels))), inputs.shape[-2:]
