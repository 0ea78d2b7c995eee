"""Effects of codecs and sensors on small images, as transforms for the ``degrade`` pipeline of a config.

OpenCV is imported where it is used: every host registers these transforms, and few configs name them.
"""
from __future__ import annotations

import numpy as np
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class CompressJPEG:
    """Encode an 8-bit image as JPEG and decode it again.

    The order of its channels is ``results['channel_order']``, by default ``'bgr'``, as in mm's pipelines.

    Args:
        quality: From 1 to 100.
    """

    def __init__(self, quality: int) -> None:
        self.quality = quality

    def __call__(self, results: dict) -> dict:
        import cv2
        order = slice(None, None, -1 if results.get('channel_order') == 'rgb' else 1)    # OpenCV's is BGR
        image = np.ascontiguousarray(results['img'][..., order])
        _, encoded = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        results['img'] = np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., order])
        return results


@TRANSFORMS.register_module()
class AddBlur:
    """Gaussian blur.

    Args:
        sigma: Standard deviation in pixels.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, results: dict) -> dict:
        import cv2
        results['img'] = cv2.GaussianBlur(results['img'], (0, 0), self.sigma)
        return results


@TRANSFORMS.register_module()
class AddNoise:
    """White Gaussian noise on an 8-bit image, drawn from numpy's global generator.

    Args:
        sigma: Standard deviation in grey levels.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, results: dict) -> dict:
        noisy = results['img'] + np.random.normal(0, self.sigma, results['img'].shape)
        results['img'] = noisy.round().clip(0, 255).astype(np.uint8)
        return results
